"""Settings of the admission controller."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from fairline.runtime.settings import KafkaSettings, ProcessSettings, RecordsSettings, RedisSettings, section


class AdmissionSettings(ProcessSettings, RedisSettings, KafkaSettings, RecordsSettings):
    """What a controller reads from the environment, ``FAIRLINE_ADMISSION_*`` besides the shared ones."""

    SECTION: ClassVar[str] = "ADMISSION"
    model_config = section("ADMISSION")

    tick_ms: int = Field(25, ge=5, le=500, description="rest between two looks at a line that moves")
    keep_ms: int = Field(100, ge=10, le=500, description="rest between two rounds of reaping and sweeping")
    batch: int = Field(200, ge=1, le=1000, description="tickets admitted in one call")
    batches: int = Field(8, ge=1, le=64, description="times batch: tickets under decision at a time, for each sale")
    lease_ms: int = Field(
        10_000, ge=200, le=600_000, description="how long a controller may decide; longer where a validator needs it"
    )
    margin_ms: int = Field(500, ge=50, le=60_000, description="end of a lease in which nothing new is decided")
    max_tries: int = Field(3, ge=1, le=20, description="admissions of a ticket before it lapses")
    outbox_limit: int = Field(20_000, ge=100, le=1_000_000, description="facts not yet on Kafka; admission stops there")
    orders_limit: int = Field(
        20_000, ge=100, le=1_000_000, description="orders without a verdict, of a sale; admission stops there"
    )
    behind_ms: int = Field(
        5_000, ge=100, le=600_000, description="age of such orders from which admission slows; slowest at five times it"
    )
    relay_batch: int = Field(
        500, ge=1, le=5000, description="facts sent to Kafka at a time, for each sale; fewer while it is slow"
    )
    relay_timeout_ms: int = Field(5_000, ge=100, le=60_000, description="wait for Kafka's acknowledgement")
    redrive_after_ms: int = Field(
        30_000, ge=200, le=600_000, description="until an order nothing is heard of is sent again"
    )
    redrive_longest_ms: int = Field(300_000, ge=200, le=3_600_000, description="what that doubles up to")
    archive_after_s: float = Field(
        86_400.0, ge=1, le=31_536_000, description="how long a closed sale's tickets stay in Redis; then Postgres alone"
    )
    recover_drain_s: float = Field(
        10.0, ge=0, le=600, description="wait for orders under way before a sale is rebuilt; those after it are void"
    )
    settle_batch: int = Field(500, ge=1, le=5000, description="results taken from Kafka at a time")
    compare_every_s: float = Field(
        60.0, ge=1, le=86_400, description="rest between two comparisons of a sale with Postgres, by any copy"
    )
    validator_tries: int = Field(2, ge=1, le=5, description="requests to the shop for one ticket and admission")
    validator_connections: int = Field(100, ge=1, le=1000, description="requests to a shop at a time, for each sale")
    breaker_failures: int = Field(5, ge=1, le=1000, description="failures in a row that leave the shop alone")
    breaker_rest_ms: int = Field(2_000, ge=100, le=600_000, description="how long the shop is left alone")

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.margin_ms * 2 > self.lease_ms:
            raise ValueError(
                f"FAIRLINE_ADMISSION_MARGIN_MS={self.margin_ms}: must be at most half of "
                f"FAIRLINE_ADMISSION_LEASE_MS={self.lease_ms}"
            )
        if self.redrive_longest_ms < self.redrive_after_ms:
            raise ValueError(
                f"FAIRLINE_ADMISSION_REDRIVE_LONGEST_MS={self.redrive_longest_ms}: must not be below "
                f"FAIRLINE_ADMISSION_REDRIVE_AFTER_MS={self.redrive_after_ms}"
            )
        return self
