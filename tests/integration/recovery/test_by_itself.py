"""D2: whatever Redis loses, the controllers notice it and rebuild the sale, once, without anybody asking."""

import os
import signal
from typing import Any

import pytest
from redis.exceptions import RedisError

from admission.settings import AdmissionSettings
from fairline.errors import FencedError, UnavailableError
from fairline.store.fence import identity
from tests.support.admission import admission_settings, an_admission
from tests.support.recovering import World, show, window_over
from tests.support.sale import SaleDriver
from tests.support.sale_facts import faults_of
from tests.support.stack import eventually


def quick(world: World) -> AdmissionSettings:
    return admission_settings(
        redis_url=world.running.redis_url,
        kafka=world.kafka,
        order_service_url=world.order_service_url,
        redrive_after_ms=500,
        drain_s=5,
    )


async def goes_on(sale: SaleDriver, epoch: int) -> bool:
    try:
        view = await sale.sales.get(sale.id)
    except (FencedError, UnavailableError):
        return False
    return view is not None and view.epoch == epoch


async def state_is(sale: SaleDriver, ticket_id: str, *states: str) -> bool:
    try:
        return (await sale.record(ticket_id)).state in states
    except (RedisError, AssertionError):
        return False


@pytest.mark.parametrize("loss", ["killed", "emptied"])
@pytest.mark.parametrize("copies", [1, 2])
async def test_a_sale_goes_on_by_itself_and_nothing_is_sold_twice(world: World, loss: str, copies: int) -> None:
    sale = await world.sale(4)
    settings = quick(world)
    async with an_admission(settings), an_admission(settings if copies == 2 else admission_settings()):
        early = await sale.join("ada", "bob")
        await eventually(lambda: all_are(sale, early, "CONFIRMED"), within_s=60)
        await sale.change("pause")
        cy, dan = [await sale.ticket(each) for each in await sale.join("cy", "dan")]
        if loss == "killed":
            was = await identity(world.running.redis_url)
            os.kill(world.running.pid("redis"), signal.SIGKILL)

            async def back() -> bool:
                return await identity(world.running.redis_url) != was

            await eventually(lambda: quietly(back), within_s=30)
        else:
            await eventually(lambda: acked(sale), within_s=30)
            await world.empty()
        await eventually(lambda: goes_on(sale, 1), within_s=60)
        view = await sale.sales.get(sale.id)
        assert view is not None
        assert view.state == "paused"
        for late in (dan, cy):
            assert await show(sale, late) is not None
        await sale.change("resume")
        assert await sale.states(cy.ticket_id, dan.ticket_id) == ["WAITING", "WAITING"], "P3"
        await window_over(sale)
        await eventually(lambda: all_are(sale, [cy.ticket_id, dan.ticket_id], "CONFIRMED"), within_s=60)
        sold = {unit: each.ticket_id async for each in world.records.ended(sale.id) for unit in units_of(each)}
        assert sold == dict(zip((1, 2, 3, 4), (*early, cy.ticket_id, dan.ticket_id), strict=True))
        known = await world.records.known(sale.id)
        assert known is not None
        assert known.epoch == 1, "raised once"
        assert await faults_of(sale) == []


def units_of(each: Any) -> tuple[int, ...]:
    return each.sold.units if each.sold else ()


async def quietly(look: Any) -> Any:
    try:
        return await look()
    except (RedisError, OSError):
        return False


async def acked(sale: SaleDriver) -> bool:
    version, known = await sale.raw.hmget(sale.keys.meta, "version", "acked")
    return bool(version == known)


async def all_are(sale: SaleDriver, ticket_ids: list[str], state: str) -> bool:
    return set(await sale.states(*ticket_ids)) == {state}


async def test_o4_a_draft_that_postgres_never_heard_of_goes_on_as_it_is(world: World) -> None:
    sale = SaleDriver(world.redis, {"seat": 3})
    await sale.create()
    await sale.raw.xtrim(sale.keys.outbox, maxlen=0)
    await world.restart()
    sale.move_to(world.redis)
    with pytest.raises(FencedError):
        await sale.look()
    async with an_admission(quick(world)):
        await eventually(lambda: goes_on(sale, 0), within_s=30)


async def test_a_sale_that_was_made_anew_on_an_emptied_redis_is_halted_and_rebuilt(world: World) -> None:
    sale = await world.sale(4)
    [ada] = await sale.reserved("ada")
    await world.send(sale)
    await world.ended(sale, 1)
    await world.empty()
    assert await sale.create() == "CREATED"
    await sale.relay()
    async with an_admission(quick(world)):
        await eventually(lambda: goes_on(sale, 1), within_s=60)
    assert await sale.states(ada) == ["CONFIRMED"]
    assert (await sale.item("next"), (await sale.look()).meta["state"]) == (2, "open")


async def test_e4_a_closed_sale_that_was_lost_is_there_again_and_closed_again(world: World) -> None:
    sale = await world.sale(4)
    async with an_admission(quick(world)):
        [ada] = await sale.join("ada")
        await eventually(lambda: state_is(sale, ada, "CONFIRMED"), within_s=60)
        await sale.change("end")
        await eventually(lambda: sale.room.is_closed(sale.id), within_s=60)
        await world.empty()
        await eventually(lambda: goes_on(sale, 1), within_s=60)
        await eventually(lambda: sale.room.is_closed(sale.id), within_s=60)
        assert await sale.states(ada) == ["CONFIRMED"]
        assert sale.id in await sale.room.sale_ids()
