"""D2 to D5, U4, P3: a sale is rebuilt after each way in which Redis may lose data, from each step that may be cut."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
import pytest

from admission import recovery
from admission.rebuild import rebuild
from admission.records import Known
from admission.recovery import LostHoldError
from admission.relay import Relay
from fairline import events
from fairline.errors import FencedError
from fairline.events import OrderPlaced, SaleChanged, from_outbox
from fairline.ids import readmission_of
from fairline.runtime.metrics import Metrics
from fairline.store.tickets import Ticket
from fairline.stream.progress import behind
from fairline.stream.topics import order_service_group
from fairline.stream.writer import EventWriter
from tests.support.admission import NOWHERE, UnsteadyRedis, admission_settings
from tests.support.recovering import Replica, World, show, window_over
from tests.support.sale import SaleDriver
from tests.support.sale_facts import faults_of
from tests.support.stack import eventually


async def tickets_of(sale: SaleDriver, *ids: str) -> list[Ticket]:
    return [await sale.ticket(each) for each in ids]


async def outbox(sale: SaleDriver) -> list[Any]:
    return [from_outbox(fields[b"fact"]) for _, fields in await sale.raw.xrange(sale.keys.outbox)]


async def sell_the_rest(world: World, sale: SaleDriver) -> dict[int, str]:
    """Everybody in line is admitted, buys, and Postgres writes it; who has which unit then, by Postgres."""
    await window_over(sale)
    await sale.redrive()
    lease, grant = await sale.admit()
    assert await sale.reserve(lease, *grant.ids) == ["RESERVED"] * len(grant.ids)
    await world.send(sale)
    reserved = [each.decode() for each in await sale.raw.zrange(sale.keys.reserved, 0, -1)]
    sold: dict[int, str] = {}

    async def written() -> bool:
        sold.clear()
        async for each in world.records.ended(sale.id):
            sold.update(dict.fromkeys(each.sold.units if each.sold else (), each.ticket_id))
        return set(reserved) <= set(sold.values())

    await eventually(written, within_s=60)
    await sale.confirm(*reserved)
    return sold


async def test_d3_an_emptied_redis_is_rebuilt_from_postgres_and_lost_buyers_come_back_in_their_order(
    world: World,
) -> None:
    sale = await world.sale(6, per_buyer_limit=2)
    bought = await sale.reserved("ada", "bob")
    await world.send(sale)
    await world.ended(sale, 2)
    await sale.confirm(*bought)
    waiting = await tickets_of(sale, *await sale.join("cy", "dan", "eve"))
    await world.empty()
    with pytest.raises(FencedError):
        await sale.look()

    attempt = await world.recover(sale)

    assert attempt.because == "lost"
    assert await sale.states(*bought) == ["CONFIRMED", "CONFIRMED"]
    assert (await sale.item("high"), await sale.item("next"), await sale.returned()) == (6, 3, [])
    view = await sale.sales.get(sale.id)
    assert view is not None
    assert (view.definition, view.epoch, view.state, view.version) == (sale.definition, 1, "open", 3)
    [change] = await outbox(sale)
    assert isinstance(change, SaleChanged)
    assert (change.action, change.epoch, change.version) == ("recover", 1, 3)
    assert await faults_of(sale) == []

    [fay] = await tickets_of(sale, *await sale.join("fay"))
    assert fay.epoch == 1
    for late in (waiting[2], waiting[0]):
        back = await show(sale, late)
        assert back is not None
        assert (back.state, back.arrival) == ("WAITING", late.arrival)
    await window_over(sale)
    assert await sale.admitted(2) == [waiting[0].ticket_id, waiting[2].ticket_id]
    assert await sale.admitted(2) == [fay.ticket_id]
    assert await faults_of(sale) == []


async def readmitted(world: World, sale: SaleDriver, old: str) -> str:
    """Postgres refuses the order that lies in the outbox, and an operator readmits its buyer; the new ticket."""
    [placed] = await sale.relay()
    assert isinstance(placed, OrderPlaced)
    await world.send_these(msgspec.structs.replace(placed, units=(0,)))
    assert (await world.ended(sale, 1))[old].outcome == "RELEASED"
    await sale.release(old)
    new = readmission_of(sale.id, old)

    async def letter() -> str:
        [found] = (await world.ask(f"dead-letters?sale_id={sale.id}"))["dead_letters"]
        return str(found["id"])

    letter_id = await eventually(letter, within_s=60)
    act = {"operator": "ada", "role": "operator", "reason": "", "request_id": "r"}
    await world.ask(f"dead-letters/{letter_id}/readmit", act)
    assert await sale.room.readmit(sale.id, old) == "READMITTED"
    await world.ask(f"dead-letters/{letter_id}/readmitted", {"ticket_id": new})
    return new


@pytest.mark.parametrize("lost", ["emptied", "an older file"])
async def test_s2_a_readmission_that_was_lost_is_back_by_itself_in_the_old_place(world: World, lost: str) -> None:
    sale = await world.sale(6)
    [old] = await sale.reserved("ada")
    behind = await sale.ticket((await sale.join("bob"))[0])
    older = world.copy()
    new = await readmitted(world, sale, old)
    ticket = await sale.ticket(new)
    await (world.empty() if lost == "emptied" else world.restart(older))

    await world.recover(sale)

    assert await sale.states(old, new) == ["RELEASED", "WAITING"]
    assert await sale.room.readmit(sale.id, old) == "SAME"
    assert await faults_of(sale) == []
    await window_over(sale)
    assert await sale.admitted(2) == [], "whose buyer has not come is passed over"
    for shown in (behind, ticket):
        back = await show(sale, shown)
        assert back is not None
        assert (back.ticket_id, back.state, back.arrival) == (shown.ticket_id, "WAITING", shown.arrival)
    assert ticket.arrival < behind.arrival
    assert await sale.admitted(2) == [new, behind.ticket_id]
    assert await faults_of(sale) == []


async def test_a_rebuild_counts_the_declined_by_the_reasons_that_it_finds_and_keeps_the_running_totals(
    world: World,
) -> None:
    sale = await world.sale(6)
    [ada, bob] = await sale.join("ada", "bob")
    lease, _ = await sale.admit()
    await sale.decline(lease, bob, reason="no_member")
    assert await sale.reserve(lease, ada) == ["RESERVED"]
    await world.send(sale)
    await world.ended(sale, 2)
    record = msgspec.structs.replace(await sale.record(ada), state="DECLINED", reason="of_before", units=(), slots=())
    await sale.raw.hset(sale.keys.tickets, ada, msgspec.msgpack.encode(record))
    await sale.raw.hset(sale.keys.counts, mapping={"seat:DECLINED:of_before": 1, "seat:refused:sold_out": 7})
    await world.restart()

    await world.recover(sale)

    counts = {name: int(number) for name, number in (await sale.raw.hgetall(sale.keys.counts)).items()}
    assert {name: number for name, number in counts.items() if b":DECLINED:" in name} == {b"seat:DECLINED:no_member": 1}
    assert counts[b"seat:refused:sold_out"] == 7
    assert await sale.states(ada) == ["CONFIRMED"]
    assert await faults_of(sale) == []


@pytest.mark.parametrize("lost", ["an older file", "a lagging replica"])
async def test_d3_verdicts_overrule_what_an_older_redis_still_has(world: World, lost: str) -> None:
    replica = await Replica.of(world) if lost == "a lagging replica" else None
    sale = await world.sale(6)
    await sale.join("ada", "bob", "cy", "dan", "eve")
    a, b, c, d, e = await sale.line()
    lease, _ = await sale.admit(4)
    assert await sale.reserve(lease, a, b) == ["RESERVED", "RESERVED"]
    await world.send(sale)
    await world.ended(sale, 2)
    if replica:
        await replica.lag()
    older = world.copy()
    # From here on all is lost with Redis: two more sold, one declined, one who joined.
    await sale.confirm(a, b)
    await sale.reserve(lease, c)
    await sale.decline(lease, d)
    [fay] = await tickets_of(sale, *await sale.join("fay"))
    await world.send(sale)
    await world.ended(sale, 4)
    if replica:
        await replica.promote()
    else:
        await world.restart(older)
    assert (await sale.record(a)).state == "RESERVED"
    assert (await sale.record(c)).state == "ADMITTED"

    attempt = await world.recover(sale)

    assert attempt.because == "another Redis"
    assert await sale.states(a, b, c, d, e) == ["CONFIRMED", "CONFIRMED", "CONFIRMED", "DECLINED", "WAITING"]
    assert (await sale.record(d)).reason == "payment_declined"
    assert await faults_of(sale) == []
    back = await show(sale, fay)
    assert back is not None
    assert back.arrival == fay.arrival
    await show(sale, await sale.ticket(e))
    sold = await sell_the_rest(world, sale)
    assert sorted(sold) == [1, 2, 3, 4, 5]
    assert len(set(sold.values())) == 5
    assert await faults_of(sale) == []
    if replica:
        await replica.stop()


async def test_v7_o3_an_order_without_a_verdict_keeps_its_unit_and_is_sent_with_the_new_epoch_alone(
    world: World,
) -> None:
    sale = await world.sale(4)
    [ada] = await sale.reserved("ada")
    [old] = [fact for fact in await outbox(sale) if isinstance(fact, OrderPlaced)]
    await world.restart()
    # Its order is still in the outbox, as nobody relays here: the drain ends by its limit.
    await world.recover(sale, drain_s=0.1)
    assert await sale.states(ada) == ["RESERVED"]
    assert (await sale.record(ada)).units == old.units
    assert await sale.redrive() == (1, 0)
    sent = [fact for fact in await outbox(sale) if isinstance(fact, OrderPlaced)]
    assert [(fact.epoch, fact.units) for fact in sent] == [(0, (1,)), (1, (1,))]
    await world.send(sale)
    ended = await world.ended(sale, 1)
    order = ended[ada].order
    assert order is not None
    assert (order.verdict, order.epoch) == ("confirmed", 1)


@asynccontextmanager
async def nothing_is_written(postgres_dsn: str, table: str) -> AsyncIterator[None]:
    """Whoever would write there waits."""
    postgres = await asyncpg.connect(postgres_dsn)
    try:
        async with postgres.transaction():
            await postgres.execute(f"LOCK TABLE {table} IN SHARE MODE")
            yield
    finally:
        await postgres.close()


@pytest.mark.parametrize(
    ("topic", "table"), [(events.ORDERS, "orders"), (events.SALES, "sales"), (events.TICKETS, "ticket_history")]
)
async def test_d2_what_kafka_holds_is_decided_before_it_would_be_void(
    world: World, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch, topic: str, table: str
) -> None:
    sale = await world.sale(4)
    ada, bob = await sale.join("ada", "bob")
    lease, _ = await sale.admit()
    group, left = order_service_group(topic), list[int]()

    async def looked(kafka: str, of: str, *given: Any) -> int:
        number = await behind(kafka, of, *given)
        left.extend([number] if of == group else [])
        return number

    monkeypatch.setattr(recovery, "behind", looked)
    async with nothing_is_written(postgres_dsn, table):
        match topic:
            case events.ORDERS:
                assert await sale.reserve(lease, ada) == ["RESERVED"]
            case events.SALES:
                assert (await sale.set_stock(6, version=1)).word == "CHANGED"
            case _:
                await sale.decline(lease, bob)
        await world.send(sale)
        await world.empty()
        recovering = asyncio.create_task(world.recover(sale, drain_s=120))
        await eventually(lambda: any(left) or recovering.done())
        assert not recovering.done(), "it waits for what is not written"
    await recovering
    assert left[-1] == 0
    match topic:
        case events.ORDERS:
            assert await sale.states(ada) == ["CONFIRMED"]
        case events.SALES:
            assert (await sale.item("stock"), await sale.item("high")) == (6, 6)
        case _:
            assert await sale.states(bob) == ["DECLINED"]
    assert await faults_of(sale) == []


async def test_d2_what_lies_in_the_outbox_is_sent_and_decided_before_it_would_be_void(world: World) -> None:
    sale = await world.sale(4)
    [ada] = await sale.reserved("ada")
    await world.restart()
    known = await world.records.known(sale.id)
    assert known is not None
    redis = UnsteadyRedis(world.redis)
    attempt = recovery.Recovery(redis.client, world.records, world.kafka, known, drain_s=120)
    assert await attempt.claim()
    recovering = asyncio.create_task(attempt.run())
    await eventually(lambda: redis.calls.count("xlen") > 1 or recovering.done())
    assert not recovering.done(), "it waits for the relay"
    writer = EventWriter(world.kafka, "test")
    assert await Relay(world.redis, writer, sale.id, admission_settings(), Metrics()).run_once() == 1
    await recovering
    await writer.close()
    order = (await world.ended(sale, 1))[ada].order
    assert order is not None
    assert (await sale.states(ada), order.epoch, attempt.epoch) == (["CONFIRMED"], 0, 1)
    assert await faults_of(sale) == []


async def test_d2_a_kafka_that_is_away_holds_up_no_rebuild(world: World) -> None:
    sale = await world.sale(4)
    [ada] = await sale.join("ada")
    await world.restart()
    world.kafka = NOWHERE
    await world.recover(sale)
    assert await sale.states(ada) == ["WAITING"]


async def test_d2_an_epoch_that_somebody_with_another_redis_raised_meanwhile_is_not_this_attempts(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await world.sale(4)
    await world.restart()
    attempt = await world.attempt(sale)
    known = world.records.known

    async def overtaken(sale_id: str) -> Known | None:
        found = await known(sale_id)
        assert await world.records.raise_epoch(sale_id, 0) == 1
        return found

    monkeypatch.setattr(world.records, "known", overtaken)
    with pytest.raises(LostHoldError):
        await attempt.raise_epoch()
    monkeypatch.undo()
    await attempt.let_go(again_s=0)
    await eventually(lambda: recovers(world, sale, epoch=2))


async def test_u4_a_unit_that_is_sold_already_halts_the_sale_and_a_rebuild_mends_it(world: World) -> None:
    sale = await world.sale(4, per_buyer_limit=2)
    [ada] = await sale.reserved("ada")
    await world.send(sale)
    await world.ended(sale, 1)
    # What a Redis that lost data without anybody seeing it would do: unit 1 is given again.
    record = await sale.record(ada)
    await sale.raw.hset(sale.keys.items, "seat:next", 1)
    await sale.raw.hdel(sale.keys.tickets, ada)
    bob, cy = await sale.join("bob", "cy", quantity=2)
    lease, _ = await sale.admit(1)
    await sale.reserve(lease, bob)
    assert (await sale.record(bob)).units == (1, 2)
    await world.send(sale)
    ended = await world.ended(sale, 2)
    assert ended[bob].reason == "unit_taken"
    assert (await sale.release(bob, reason="unit_taken")).word == "HALTED"

    attempt = await world.recover(sale)

    assert attempt.because == "unit_taken"
    assert await sale.states(ada, bob, cy) == ["CONFIRMED", "RELEASED", "WAITING"]
    assert (await sale.record(ada)).units == record.units == (1,)
    assert (await sale.item("next"), await sale.item("high")) == (2, 4), "unit 2 is free again"
    assert await faults_of(sale) == []


async def test_p3_nobody_is_admitted_in_the_first_window_after_a_rebuild(world: World) -> None:
    sale = await world.sale(4, rate_per_s=2.0)
    [ada] = await tickets_of(sale, *await sale.join("ada"))
    await world.restart()
    await world.recover(sale)
    await show(sale, ada)
    _, grant = await sale.admit()
    assert (grant.word, grant.ids) == ("NOT_OPEN", [])
    await window_over(sale)
    assert await sale.admitted() == [ada.ticket_id]


STEPS = ["claim", "drain", "raise_epoch", "read", "refill"]


@pytest.mark.parametrize("step", STEPS)
async def test_d2_an_attempt_that_dies_after_any_step_is_begun_anew_and_comes_to_the_same(
    world: World, step: str
) -> None:
    sale = await world.sale(5)
    a, b = await sale.reserved("ada", "bob")
    await world.send(sale)
    await world.ended(sale, 2)
    c, d = await sale.join("cy", "dan")
    await sale.admit(1)
    await world.restart()

    dies = await world.attempt(sale)
    for each in dies.steps[: STEPS.index(step)]:
        await each()
    await sale.raw.delete(sale.keys.recovery)  # its hold runs out
    with pytest.raises(FencedError):
        await sale.look()

    attempt = await world.recover(sale)
    assert attempt.epoch == (1 if step in {"claim", "drain"} else 2)
    assert await sale.states(a, b, c, d) == ["CONFIRMED", "CONFIRMED", "WAITING", "WAITING"]
    assert (await sale.record(c)).lease == (await sale.record(d)).lease == "unseen"
    assert await faults_of(sale) == []


async def test_d2_whoever_has_let_go_begins_anew_even_if_nobody_else_has_taken_it(world: World) -> None:
    sale = await world.sale(5)
    await world.restart()
    slow = await world.attempt(sale)
    for each in slow.steps[:-1]:
        await each()
    await sale.raw.delete(sale.keys.recovery)
    dead = await world.attempt(sale)
    await dead.raise_epoch()
    await sale.raw.delete(sale.keys.recovery)
    for step in (slow.refill, slow.install, slow.raise_epoch):
        with pytest.raises(LostHoldError):
            await step()
    assert (await world.recover(sale)).epoch == 3


async def hold_ms(sale: SaleDriver) -> int:
    return int(await sale.raw.pttl(sale.keys.recovery))


async def test_d2_an_attempt_that_fails_lets_go_and_nobody_waits_for_its_hold(world: World) -> None:
    sale = await world.sale(5)
    await world.restart()
    failed = await world.attempt(sale)
    for each in failed.steps[:-1]:
        await each()
    assert 1_000 < await hold_ms(sale) <= recovery.HOLD_MS
    await failed.let_go(again_s=60)
    assert await hold_ms(sale) > recovery.HOLD_MS, "no sooner than was said"
    await failed.let_go(again_s=0)

    async def let_go() -> bool:
        return await hold_ms(sale) < 0

    await eventually(let_go)
    with pytest.raises(LostHoldError):
        await failed.install()
    other = await world.attempt(sale)
    await failed.let_go(again_s=0)
    assert await hold_ms(sale) > 1_000, "nobody lets go of what is another's"
    await other.run()
    await failed.let_go(again_s=0)
    await sale.look()


async def test_d2_a_hold_that_cannot_be_let_go_of_ends_by_itself(world: World) -> None:
    sale = await world.sale(5)
    await world.restart()
    known = await world.records.known(sale.id)
    assert known is not None
    redis = UnsteadyRedis(world.redis)
    attempt = recovery.Recovery(redis.client, world.records, world.kafka, known, drain_s=0)
    assert await attempt.claim()
    redis.refuse("let_go")
    await attempt.let_go(again_s=0)
    assert "let_go" in redis.calls
    assert 1_000 < await hold_ms(sale) <= recovery.HOLD_MS
    await sale.raw.pexpire(sale.keys.recovery, 1)
    await eventually(lambda: recovers(world, sale))


async def recovers(world: World, sale: SaleDriver, *, epoch: int = 1) -> bool:
    return (await world.recover(sale)).epoch == epoch


@pytest.mark.parametrize("step", STEPS[1:])
async def test_d2_a_slow_attempt_that_wakes_up_after_another_has_come_first_changes_nothing(
    world: World, step: str
) -> None:
    sale = await world.sale(5)
    await sale.join("ada", "bob")
    await world.restart()
    slow = await world.attempt(sale)
    for each in slow.steps[: STEPS.index(step)]:
        await each()
    await sale.raw.delete(sale.keys.recovery)
    await world.recover(sale)
    [ada] = await tickets_of(sale, (await sale.line())[0])
    await show(sale, ada)
    before = {key: await sale.raw.dump(key) async for key in sale.raw.scan_iter("*")}

    async def goes_on() -> None:
        for each in slow.steps[STEPS.index(step) :]:
            await each()

    with pytest.raises(LostHoldError):
        await goes_on()
    assert {key: await sale.raw.dump(key) async for key in sale.raw.scan_iter("*")} == before
    known = await world.records.known(sale.id)
    assert known is not None
    view = await sale.sales.get(sale.id)
    assert view is not None
    assert view.epoch == known.epoch, "an epoch that Redis does not have would void every order"


async def test_d2_a_rebuild_of_many_tickets_and_a_slow_kafka_do_not_cost_the_hold(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await world.sale(5)
    await world.restart()

    def slowly(work: Any) -> Any:
        def worked(*given: Any, **more: Any) -> Any:
            time.sleep(5)  # in its thread
            return work(*given, **more)

        return worked

    async def in_a_second(*_: Any) -> Any:
        await asyncio.sleep(1)
        return 0

    monkeypatch.setattr(recovery, "HOLD_MS", 3_000)
    monkeypatch.setattr(recovery, "ends_of", in_a_second)
    monkeypatch.setattr(recovery, "behind", in_a_second)
    monkeypatch.setattr(recovery, "rebuild", slowly(rebuild))
    await world.recover(sale)
    assert (await sale.look()).meta["epoch"] == "1"


async def test_d2_of_two_attempts_one_has_it_in_hand(world: World) -> None:
    sale = await world.sale(5)
    await world.restart()
    known = await world.records.known(sale.id)
    assert known is not None
    attempts = [type(await world.attempt(sale))(world.redis, world.records, world.kafka, known, drain_s=1)]
    assert not await attempts[0].claim()
    await sale.raw.delete(sale.keys.recovery)
    racing = [type(attempts[0])(world.redis, world.records, world.kafka, known, drain_s=1) for _ in range(5)]
    assert sum(await asyncio.gather(*(each.claim() for each in racing))) == 1


async def test_d2_a_redis_that_is_replaced_once_more_in_the_middle_is_rebuilt_from_the_beginning(world: World) -> None:
    sale = await world.sale(5)
    [a] = await sale.reserved("ada")
    await world.send(sale)
    await world.ended(sale, 1)
    [b] = await sale.join("bob")
    await world.restart()
    cut = await world.attempt(sale)
    for each in cut.steps[:-1]:
        await each()
    await world.restart()
    cut._redis = world.redis
    with pytest.raises(LostHoldError):
        await cut.install()
    await world.recover(sale)
    assert await sale.states(a, b) == ["CONFIRMED", "WAITING"]
    assert await faults_of(sale) == []


async def test_d4_a_second_loss_keeps_what_the_first_one_knew(world: World) -> None:
    sale = await world.sale(5)
    ada, bob = await tickets_of(sale, *await sale.join("ada", "bob"))
    await world.empty()
    await world.recover(sale)
    await show(sale, ada)
    [cy] = await tickets_of(sale, *await sale.join("cy"))
    await world.send(sale)
    await world.empty()
    await world.recover(sale)
    for each in (cy, bob, ada):
        back = await show(sale, each)
        assert back is not None
        assert back.arrival == each.arrival
    await window_over(sale)
    assert await sale.admitted() == [ada.ticket_id, bob.ticket_id, cy.ticket_id]


async def test_u3_stock_that_was_asked_for_in_redis_alone_goes_on_sale_when_postgres_knows(world: World) -> None:
    sale = await world.sale(3)
    assert (await sale.set_stock(5, version=1)).word == "CHANGED"
    await sale.raw.xtrim(sale.keys.outbox, maxlen=0)  # and was not sent
    await world.restart()
    await world.recover(sale, drain_s=0.1)
    assert (await sale.item("stock"), await sale.item("high")) == (5, 3)
    await world.send(sale)
    version = int(await sale.raw.hget(sale.keys.meta, "version"))
    assert await sale.acknowledge(version, epoch=1) == "APPLIED"
    assert await sale.item("high") == 5
    assert await faults_of(sale) == []


async def test_u3_serials_taken_off_sale_in_redis_alone_stay_so_through_an_attempt_that_dies(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await world.sale(3)
    ordered = await sale.reserved("ada", "bob", "cy")
    await sale.release(*ordered[:2])  # units 1 and 2 came back
    assert (await sale.set_stock(2, version=1)).word == "CHANGED"
    assert await sale.raw.smembers(sale.keys.withdrawn[0]) == {b"2"}
    await sale.raw.xtrim(sale.keys.outbox, maxlen=0)  # and Postgres has not heard of it
    await world.restart()

    dies = await world.attempt(sale, drain_s=0.1)
    await dies.raise_epoch()
    await dies.read()
    write = dies._write

    async def written_once(*part: Any, **more: Any) -> None:
        await write(*part, **more)
        raise ConnectionError

    monkeypatch.setattr(dies, "_write", written_once)
    with pytest.raises(ConnectionError):
        await dies.refill()
    await sale.raw.delete(sale.keys.recovery)  # its hold runs out

    await world.recover(sale, drain_s=0.1)
    assert await sale.raw.smembers(sale.keys.withdrawn[0]) == {b"2"}
    assert (await sale.item("stock"), await sale.item("target")) == (2, 3)
    assert await faults_of(sale) == []


async def test_u3_stock_that_redis_forgot_is_what_postgres_knows(world: World) -> None:
    sale = await world.sale(5)
    older = world.copy()
    assert (await sale.set_stock(3, version=1)).word == "CHANGED"
    await world.send(sale)

    async def known() -> bool:
        found = await world.records.known(sale.id)
        return found is not None and found.version == 3

    await eventually(known, within_s=60)
    await world.restart(older)
    await world.recover(sale)
    assert (await sale.item("stock"), await sale.item("high"), await sale.item("version")) == (3, 3, 1)
    assert (await sale.set_stock(3, version=1)).word == "SAME"
    assert await faults_of(sale) == []


@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
async def test_d5b_a_redis_that_was_killed_and_lost_nothing_keeps_everything_that_was_told(
    world: World, appendfsync: str
) -> None:
    await world.redis.config_set("appendfsync", appendfsync)
    sale = await world.sale(4)
    a, b, c, d = await sale.join("ada", "bob", "cy", "dan")
    lease, _ = await sale.admit(2)
    assert await sale.reserve(lease, a) == ["RESERVED"]
    await sale.decline(lease, b)
    await sale.room.leave(sale.id, c, "seat")
    unit = (await sale.record(a)).units
    joined = await sale.count("joined")
    await world.kill()
    await world.recover(sale)
    assert await sale.states(a, b, c, d) == ["RESERVED", "DECLINED", "LEFT", "WAITING"]
    assert ((await sale.record(a)).units, await sale.count("joined")) == (unit, joined)
    assert await faults_of(sale) == []


async def test_d5_what_an_older_redis_forgot_is_sold_to_nobody_who_does_not_come_back(world: World) -> None:
    sale = await world.sale(4)
    a, b = await sale.join("ada", "bob")
    older = world.copy()
    await sale.room.leave(sale.id, a, "seat")
    lease, _ = await sale.admit()
    assert await sale.reserve(lease, b) == ["RESERVED"]  # and its order never left the outbox
    await world.restart(older)
    await world.recover(sale)
    assert await sale.states(a, b) == ["WAITING", "WAITING"], "LEFT and RESERVED are forgotten"
    await window_over(sale)
    assert await sale.admitted() == [], "and nobody is admitted unasked"
    [bob] = await tickets_of(sale, b)
    await show(sale, bob)
    assert await sale.admitted() == [b]
    assert await sale.count("joined") == 2
    assert await faults_of(sale) == []
