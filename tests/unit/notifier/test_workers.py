"""One task for each kind of work and each sale."""

import asyncio

import pytest

from notifier.hub import Audience, Hub
from notifier.workers import Workers
from tests.support.stack import eventually
from tests.unit.notifier.test_hub import a_client


async def test_work_goes_on_while_a_sale_has_an_audience() -> None:
    hub, at_work, stopping = Hub(), [], asyncio.Event()

    async def work(audience: Audience) -> None:
        at_work.append(audience.sale_id)
        try:
            await asyncio.Event().wait()
        finally:
            at_work.remove(audience.sale_id)

    running = asyncio.create_task(Workers(hub, [work]).run(stopping))
    anna = a_client("a")
    audience = hub.attach("one", anna)
    hub.attach("two", a_client("b"))
    await eventually(lambda: at_work == ["one", "two"])
    hub.detach(audience, anna)
    await eventually(lambda: at_work == ["two"])
    stopping.set()
    await running
    assert at_work == []


async def test_the_first_failure_is_the_end_of_all() -> None:
    hub, ended = Hub(), []

    async def work(audience: Audience) -> None:
        try:
            await asyncio.sleep(0 if audience.sale_id == "bad" else 60)
        finally:
            ended.append(audience.sale_id)
        raise ZeroDivisionError(audience.sale_id)

    running = asyncio.create_task(Workers(hub, [work]).run(asyncio.Event()))
    hub.attach("good", a_client("a"))
    hub.attach("bad", a_client("b"))
    with pytest.raises(ZeroDivisionError, match="bad"):
        await running
    assert sorted(ended) == ["bad", "good"]
