"""Settings of the gateway."""

from typing import ClassVar, Final

from pydantic import Field, SecretStr, field_validator

from fairline.runtime.addresses import Origins
from fairline.runtime.settings import (
    AddressSettings,
    ListenSettings,
    OperatorSettings,
    ProcessSettings,
    RecordsSettings,
    RedisSettings,
    TokenSettings,
    section,
)

LEAST_KEY_LENGTH: Final = 32
LONGEST_KEY_LENGTH: Final = 512  # of what a call may bring; a longer one would open nothing
_LEAST_VARIETY: Final = 8  # different characters; "aaaa..." is no key


class GatewaySettings(
    ProcessSettings,
    RedisSettings,
    TokenSettings,
    ListenSettings,
    AddressSettings,
    RecordsSettings,
    OperatorSettings,
):
    """What a gateway reads from the environment, ``FAIRLINE_GATEWAY_*`` besides the shared ones."""

    SECTION: ClassVar[str] = "GATEWAY"
    model_config = section("GATEWAY")

    max_requests: int = Field(
        1_000, ge=1, le=100_000, description="requests under way, shared among the sales; one alone has half; then 503"
    )
    max_connections: int = Field(10_000, ge=1, le=1_000_000, description="connections at a time; then 503")
    batch_tickets: int = Field(256, ge=1, le=256, description="joins in one script call")
    in_flight_batches: int = Field(2, ge=1, le=16, description="script calls at a time, for each sale")
    deadline_s: float = Field(3.0, ge=0.1, le=30, description="how long a join waits before it is refused, not sent")
    max_waiting: int = Field(
        500_000, ge=1, le=10_000_000, description="tickets of a sale that may wait (409 bytes each); then 503"
    )
    frame_ms: int = Field(100, ge=1, le=100, description="how old the board of a sale may be")
    cached_sales: int = Field(1_000, ge=10, le=100_000, description="sales on the board")
    body_timeout_s: float = Field(5.0, ge=0.1, le=60, description="how long a request's body may take")
    acknowledge_s: float = Field(10.0, ge=0.1, le=60, description="how long open and stock wait for Postgres")
    order_service_timeout_s: float = Field(2.0, ge=0.1, le=30, description="wait for the order service's answer")
    linger_s: float = Field(
        2.0, ge=0, le=60, description="after SIGTERM: time to serve on, so that a balancer turns away first"
    )
    cors_origins: Origins = Field("", description="exact origins of other sites' pages, by commas")

    @field_validator("operator_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr | None) -> SecretStr | None:
        if key is None:
            return None
        text = key.get_secret_value()
        if (
            not LEAST_KEY_LENGTH <= len(text) <= LONGEST_KEY_LENGTH
            or len(set(text)) < _LEAST_VARIETY
            or not (text.isascii() and text.isprintable())
            or " " in text  # a call's header has none at its ends
        ):
            raise ValueError(
                f"must be {LEAST_KEY_LENGTH} to {LONGEST_KEY_LENGTH} random ASCII characters without a space"
            )
        return key

    @property
    def origins(self) -> tuple[str, ...]:
        """``cors_origins`` as a list."""
        return tuple(filter(None, map(str.strip, self.cors_origins.split(","))))
