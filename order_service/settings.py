"""Settings of the order service."""

from typing import ClassVar

from pydantic import Field

from fairline.runtime.settings import KafkaSettings, PostgresSettings, ProcessSettings, section


class OrderServiceSettings(ProcessSettings, KafkaSettings, PostgresSettings):
    """What the order service reads from the environment, ``FAIRLINE_ORDER_SERVICE_*`` besides the shared ones."""

    SECTION: ClassVar[str] = "ORDER_SERVICE"
    model_config = section("ORDER_SERVICE")

    batch: int = Field(500, ge=1, le=5000, description="records written in one transaction")
    poll_ms: int = Field(500, ge=10, le=10_000, description="wait for records when there are none")
    attempts: int = Field(3, ge=1, le=20, description="tries of a record that Postgres refuses, before it is given up")
    backoff_ms: int = Field(100, ge=1, le=60_000, description="until a record that must wait is tried again; doubles")
    longest_backoff_ms: int = Field(1_000, ge=1, le=600_000, description="what that doubles up to")
    deferred: int = Field(
        2_000,
        ge=1,
        le=100_000,
        description="waiting records of a partition; then orders are passed over, and of others no more are read",
    )
    dead_letters_in_a_row: int = Field(
        20, ge=1, le=100_000, description="records given up with none written between; at that number none is any more"
    )
    dead_letters_share: float = Field(
        0.2, gt=0, le=1, description="of the last 1,000 records, given up; at that share none is any more"
    )
    publish_timeout_ms: int = Field(5_000, ge=100, le=60_000, description="wait for Kafka's acknowledgement")
    pool: int = Field(5, ge=2, le=100, description="connections to Postgres at most")
    acquire_timeout_ms: int = Field(3_000, ge=10, le=60_000, description="wait for a connection to Postgres")
    command_timeout_ms: int = Field(10_000, ge=100, le=600_000, description="longest statement")
