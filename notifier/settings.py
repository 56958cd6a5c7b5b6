"""Settings of the notifier."""

from typing import ClassVar

from pydantic import Field

from fairline.runtime.addresses import Origins
from fairline.runtime.settings import ListenSettings, ProcessSettings, RedisSettings, TokenSettings, section


class NotifierSettings(ProcessSettings, RedisSettings, TokenSettings, ListenSettings):
    """What a notifier reads from the environment; its own are ``FAIRLINE_NOTIFIER_NAME``."""

    SECTION: ClassVar[str] = "NOTIFIER"
    model_config = section("NOTIFIER")

    tick_ms: int = Field(250, ge=20, le=60_000, description="from one shared progress frame of a sale to the next")
    early_ms: int = Field(50, ge=0, le=60_000, description="a tick starts this soon after something moved")
    patience_ms: int = Field(1_000, ge=50, le=60_000, description="Redis silent for so long: clients read recovering")

    max_connections: int = Field(10_000, ge=1, le=1_000_000, description="beyond it: HTTP 503 with Retry-After")
    origins: Origins = Field("", description="origins a browser may come from, separated by commas; empty: any")
    open_timeout_s: float = Field(10.0, gt=0, le=60, description="time for the opening handshake")
    hello_timeout_s: float = Field(5.0, gt=0, le=60, description="time to send the token")
    close_timeout_s: float = Field(5.0, gt=0, le=60, description="time for the closing handshake, then it is cut")
    ping_interval_s: float = Field(20.0, gt=0, le=600, description="between pings to a client")
    ping_timeout_s: float = Field(20.0, gt=0, le=600, description="time for a client to answer a ping")
    connection_life_s: float = Field(3_600.0, gt=0, le=86_400, description="longest life, spread by a fifth each way")
    done_grace_s: float = Field(1.0, ge=0, le=60, description="from the final ticket frame to the close")
    reconnect_spread_s: float = Field(
        5.0, ge=0, le=300, description="clients sent away, 1,000 a second, come back within this"
    )
    messages_per_min: int = Field(60, ge=1, le=6_000, description="a client that sends more is closed")

    slow_limit_s: float = Field(10.0, gt=0, le=600, description="a client that has not read for so long is closed")
    write_buffer_bytes: int = Field(16_384, ge=1_024, le=16_777_216, description="unsent bytes that make a client slow")
    send_buffer_bytes: int = Field(16_384, ge=4_096, le=16_777_216, description="the kernel's buffer a connection")
    mailbox_results: int = Field(16, ge=1, le=1_000, description="ticket frames kept for a slow client")
    read_batch: int = Field(500, ge=1, le=5_000, description="tickets read by one script call")
