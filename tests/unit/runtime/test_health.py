"""What a process says that it lacks: by ``/readyz`` to whoever sends it work, by ``/metrics`` to whoever is woken."""

import msgspec

from fairline.errors import UnavailableError
from fairline.runtime import health
from fairline.runtime.health import Health
from fairline.runtime.metrics import Metrics


async def there() -> None:
    """It answers."""


async def away() -> None:
    raise UnavailableError("Kafka does not answer")


async def test_what_is_missing_is_named_alike_to_a_balancer_and_as_a_metric() -> None:
    metrics = Metrics()
    asked = Health(metrics, {"redis": there, "kafka": away})
    status, _, body = await asked.answer("/readyz")
    assert (status, set(msgspec.json.decode(body)["missing"])) == (503, {"kafka"})
    status, _, page = await asked.answer("/metrics")
    assert status == 200
    assert b'fairline_missing{what="kafka"} 1.0' in page
    assert b'fairline_missing{what="redis"} 0.0' in page


async def test_what_came_back_is_missing_no_more() -> None:
    metrics, lacking = Metrics(), True

    async def check() -> None:
        if lacking:
            await away()

    asked = Health(metrics, {"kafka": check})
    await asked.answer("/metrics")
    assert metrics.registry.get_sample_value("fairline_missing", {"what": "kafka"}) == 1
    lacking = False
    asked._known_at -= health.KEEP_S  # the answer of before has grown old
    await asked.answer("/metrics")
    assert metrics.registry.get_sample_value("fairline_missing", {"what": "kafka"}) == 0
