"""D2: whatever Redis loses, the controllers notice it and rebuild the sale, once, without anybody asking."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import RedisError

from admission.records import Ended, Known, Records
from admission.recoverer import AT_ONCE, Recoverer
from admission.recovery import Recovery
from admission.settings import AdmissionSettings
from fairline.errors import FencedError, UnavailableError
from fairline.runtime.metrics import Metrics
from fairline.store import keys as names
from fairline.store.room import Room
from fairline.store.sales import Sales
from tests.support.admission import admission_settings, an_admission
from tests.support.killed_redis import kill_redis
from tests.support.recovering import World, show, window_over
from tests.support.sale import SaleDriver
from tests.support.sale_facts import faults_of
from tests.support.stack import eventually


def quick(world: World, **more: object) -> AdmissionSettings:
    return admission_settings(
        redis_url=world.running.redis_url,
        kafka=world.kafka,
        order_service_url=world.order_service_url,
        redrive_after_ms=500,
        drain_s=5,
        **more,
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
            await kill_redis(world.running)
        else:
            await eventually(lambda: acked(sale))
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
        await eventually(lambda: goes_on(sale, 0))


async def test_d2_a_sale_that_was_open_and_that_postgres_does_not_know_stays_halted(world: World) -> None:
    sale = await SaleDriver.opened(world.redis, 3)
    await world.restart()
    sale.move_to(world.redis)
    assert await a_recoverer(world, Metrics()).run_once() == 0
    with pytest.raises(FencedError):
        await sale.look()


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


@pytest.mark.parametrize("changes", [1, 2], ids=["as far as Postgres", "further than Postgres"])
async def test_2_a_sale_that_was_made_anew_and_changed_until_its_version_was_no_older_cannot_open_and_is_rebuilt(
    world: World, changes: int
) -> None:
    sale = await world.sale(4)
    [ada] = await sale.reserved("ada")
    await world.send(sale)
    await world.ended(sale, 1)
    await world.empty()
    anew = SaleDriver(world.redis, {"seat": 9}, sale_id=sale.id)
    assert await anew.create() == "CREATED"
    for change in range(changes):
        await anew.patch(message=f"for the time being {change}")
    async with an_admission(quick(world)):
        await eventually(lambda: goes_on(sale, 1), within_s=60)
    look = await sale.look()
    assert (look.meta["state"], look.meta["message"], look.rows[0].stock, look.rows[0].free) == ("open", "", 4, 3)
    assert await sale.states(ada) == ["CONFIRMED"]
    history = (await world.ask(f"sales/{sale.id}/history"))["changes"]
    assert [each["action"] for each in reversed(history)][:2] == ["create", "open"]
    assert "patch" not in {each["action"] for each in history}, "of another sale"
    assert await faults_of(sale) == []


async def test_2_a_sale_that_was_made_anew_with_other_skus_is_served_with_those_that_it_is_rebuilt_with(
    world: World,
) -> None:
    sale = await world.sale(4)
    await world.empty()
    anew = SaleDriver(world.redis, {"chair": 3}, sale_id=sale.id)
    assert await anew.create() == "CREATED"
    async with an_admission(quick(world)):
        await eventually(lambda: goes_on(sale, 1), within_s=60)
        [ada] = await sale.join("ada")
        await window_over(sale)
        await eventually(lambda: state_is(sale, ada, "CONFIRMED"), within_s=30)


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


async def whole(world: World) -> bool:
    return await Room(world.redis).is_whole()


async def test_c2_an_archived_sale_is_archived_again_after_all_of_redis_was_lost(world: World) -> None:
    sale = await world.sale(4)
    async with an_admission(quick(world, archive_after_s=1)):
        [ada] = await sale.join("ada")
        await eventually(lambda: state_is(sale, ada, "CONFIRMED"), within_s=60)
        await sale.change("end")
        await eventually(lambda: not_served(sale), within_s=60)
        await eventually(lambda: whole(world))
        before = await sale.stats()
        await world.empty()
        assert not await whole(world)
        await eventually(lambda: whole(world), within_s=60)
        after, look = await sale.stats(), await sale.look()
    assert look.meta["state"] == "closed", "a ticket that it does not know is in the archive"
    assert [(row.free, row.outlook, row.stock) for row in look.rows] == [(3, "available", 4)]
    assert (sorted(after.counts), after.stocks) == (sorted(before.counts), before.stocks)
    assert await sale.room.read(sale.id, [(ada, "seat")]) == [None]
    assert await not_served(sale)


async def test_c2_an_archived_sale_that_was_made_anew_on_an_emptied_redis_is_archived_again(world: World) -> None:
    sale = await world.sale(4)
    async with an_admission(quick(world, archive_after_s=1)):
        [ada] = await sale.join("ada")
        await eventually(lambda: state_is(sale, ada, "CONFIRMED"), within_s=60)
        await sale.change("end")
        await eventually(lambda: not_served(sale), within_s=60)
    await world.empty()
    assert await SaleDriver(world.redis, {"seat": 9}, sale_id=sale.id).create() == "CREATED"
    async with an_admission(quick(world, archive_after_s=1)):
        await eventually(lambda: whole(world), within_s=60)
        assert not await goes_on(sale, 0), "nobody can take it for a new one"
        await eventually(lambda: not_served(sale), within_s=60)
        look = await sale.look()
    assert (look.meta["state"], look.meta["epoch"], look.rows[0].stock) == ("closed", "1", 4)
    assert await sale.room.read(sale.id, [(ada, "seat")]) == [None], "it is in the archive"


async def not_served(sale: SaleDriver) -> bool:
    return sale.id not in await sale.room.sale_ids()


def a_recoverer(world: World, metrics: Metrics) -> Recoverer:
    return Recoverer(world.redis, Room(world.redis), world.records, quick(world), metrics)


async def test_a_sale_that_redis_does_not_know_may_be_lost_until_somebody_has_looked(world: World) -> None:
    sale = await world.sale(4)
    room = Room(world.redis)
    for look in (room.look, room.stats, Sales(room).get):
        with pytest.raises(FencedError):
            await look("nowhere")
    await a_recoverer(world, Metrics()).run_once()
    for look in (room.look, room.stats, Sales(room).get):
        assert await look("nowhere") is None
    was = await room.instance()
    await world.kill()
    with pytest.raises(FencedError):
        await Room(world.redis).look("nowhere")
    assert await Sales(Room(world.redis)).adopt(was) == [sale.id]
    assert await Room(world.redis).look("nowhere") is None, "nothing was lost, and somebody has said so"


async def test_a_redis_that_is_emptied_while_it_is_looked_at_is_not_whole(world: World) -> None:
    room = Room(world.redis)
    look = await room.look_begins(await room.instance(), within_s=60)
    await world.empty()
    assert not await room.look_ends(look)
    assert not await room.is_whole()
    look = await room.look_begins(await room.instance(), within_s=60)
    assert await room.look_ends(look)
    assert await room.is_whole()
    assert await world.redis.ttl(names.WHOLE) == -1


async def test_a_sale_that_was_registered_and_never_written_is_not_halted_and_one_that_is_lost_is(world: World) -> None:
    sale = await world.sale(4)
    await world.empty()
    raw: Any = world.redis
    await raw.sadd(names.SALES, "never-written", sale.id)
    metrics = Metrics()
    recoverer = a_recoverer(world, metrics)

    def halted(sale_id: str) -> float | None:
        return metrics.registry.get_sample_value("fairline_sale_recovering", {"sale": sale_id})

    attempt = await world.attempt(sale)  # somebody else is at it, so it stays halted here
    assert await recoverer.run_once() == 0
    assert (halted("never-written"), halted(sale.id)) == (0, 1)
    assert await attempt.run() is not None
    assert await recoverer.run_once() == 0
    assert (halted("never-written"), halted(sale.id)) == (0, 0)


async def test_v7_a_sale_whose_epoch_was_raised_through_another_redis_is_halted_and_rebuilt(world: World) -> None:
    sale = await world.sale(4)
    assert await world.records.raise_epoch(sale.id, 0) == 1
    assert await a_recoverer(world, Metrics()).run_once() == 1
    assert await goes_on(sale, 2), "in epoch 0 each of its orders would be void"


async def test_sales_that_go_on_are_rebuilt_before_those_that_are_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sales = sorted([await world.sale(1) for _ in range(AT_ONCE + 2)], key=lambda sale: sale.id)
    *over, last = sales
    for sale in over:
        await sale.change("end")
        await world.send(sale)
    await eventually(lambda: all_ended(world, over))
    await world.empty()
    asked: list[str] = []
    known = world.records.known

    async def noted(sale_id: str) -> Known | None:
        asked.append(sale_id)
        return await known(sale_id)

    monkeypatch.setattr(world.records, "known", noted)
    monkeypatch.setattr("admission.recoverer.BEGIN_WITHIN_S", -1.0)
    recoverer = a_recoverer(world, Metrics())
    assert (await recoverer.run_once(), asked) == (0, []), "a look that takes long begins nothing more"
    assert not await whole(world), "its sales are not even halted yet"
    monkeypatch.undo()
    monkeypatch.setattr(world.records, "known", noted)
    monkeypatch.setattr("admission.recoverer.BEGIN_WITHIN_S", 60.0)  # for a busy machine
    assert await a_recoverer(world, Metrics()).run_once() >= len(sales)
    assert asked[0] == last.id
    assert set(asked) >= {sale.id for sale in sales}


async def all_ended(world: World, sales: list[SaleDriver]) -> bool:
    states = {listed.sale_id: listed.state async for listed in world.records.sales()}
    return {states[sale.id] for sale in sales} == {"ended"}


class Moody(Records):
    """The order service, which fails while it is asked for the tickets, as often as it was told to."""

    def __init__(self, records: Records, failures: int) -> None:
        vars(self).update(vars(records))
        self.failures = failures

    async def ended(self, sale_id: str) -> AsyncIterator[Ended]:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("a test wants it")
        async for each in super().ended(sale_id):
            yield each


async def test_d2_who_fails_tries_again_soon_but_later_each_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sale = await world.sale(4)
    await world.restart()
    raw: Any = world.redis
    recoverer = Recoverer(world.redis, Room(world.redis), Moody(world.records, 3), quick(world), Metrics())
    waits = []

    async def let_go(_: Recovery, *, again_s: float) -> None:
        waits.append(again_s)

    monkeypatch.setattr(Recovery, "let_go", let_go)
    for _ in range(3):
        assert await recoverer.run_once() == 0
        assert await raw.delete(sale.keys.recovery) == 1
    assert waits == [0.5, 1.0, 2.0]
    assert await recoverer.run_once() == 1
    assert await goes_on(sale, 4)
