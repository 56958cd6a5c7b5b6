"""What a process says that it lacks: by ``/readyz`` to whoever sends it work, by ``/metrics`` to whoever is woken."""

import asyncio

import msgspec
import pytest

from fairline.errors import UnavailableError
from fairline.runtime import health
from fairline.runtime.health import Health
from fairline.runtime.metrics import Metrics
from tests.support.stack import PATIENCE_S


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


async def test_a_check_without_an_answer_is_missing_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_TIMEOUT_S", 0.05)
    asked = Health(Metrics(), {"redis": asyncio.Event().wait, "kafka": there})
    async with asyncio.timeout(PATIENCE_S):
        status, _, body = await asked.answer("/readyz")
    assert (status, msgspec.json.decode(body)["missing"]) == (503, {"redis": "no answer in 0.05 s"})


async def test_however_many_ask_the_servers_are_asked_once_in_its_time() -> None:
    asked = 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)

    one = Health(Metrics(), {"redis": check})
    await asyncio.gather(*(one.answer("/readyz") for _ in range(10)))
    one._known_at += PATIENCE_S  # a busy machine must not make it old
    await one.answer("/readyz")
    assert asked == 1


async def test_a_process_that_leaves_is_not_ready() -> None:
    leaving = Health(Metrics(), {"redis": there})
    assert (await leaving.answer("/readyz"))[0] == 200
    leaving.draining = True
    assert (await leaving.answer("/readyz"))[0] == 503
