"""The settler on a real Redis, with records in the test's hands: verdicts settle once, one sale holds up no other."""

import asyncio
import secrets
from collections.abc import Iterable
from typing import cast

import pytest
from redis.asyncio import Redis

from admission import settler as settlers
from admission.settler import Settler
from fairline.errors import UnavailableError
from fairline.events import RESULTS, AnyFact, FailureReason, OrderConfirmed, OrderFailed, SaleApplied, TicketDeclined
from fairline.runtime.metrics import Metrics
from fairline.store.room import Room
from fairline.stream.reader import Batch, EventReader, Record
from fairline.stream.writer import EventWriter
from tests.integration.admission.conftest import NewSale
from tests.support.admission import UnsteadyRedis, admission_settings, until
from tests.support.sale import SaleDriver


class Topic:
    """Hands records over and remembers what became of them."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.at = 0
        self.committed = 0
        self.reads = 0
        self.closes = 0

    def put(self, *facts: AnyFact | None) -> None:
        for fact in facts:
            key = fact.key.encode() if fact else b"?"
            fault = "" if fact else "DecodeError"
            self.records.append(Record(RESULTS, 0, len(self.records), key, b"", (), fact, fault))

    async def batch(self, max_records: int, timeout_s: float) -> Batch:
        assert timeout_s > 0
        self.reads += 1
        found = self.records[self.at : self.at + max_records]
        self.at += len(found)
        return Batch(tuple(found))

    async def commit(self, done: Iterable[Record]) -> bool:
        self.committed = max([self.committed, *(record.offset + 1 for record in done)])
        return True

    async def close(self) -> None:
        self.closes += 1

    async def rewind(self, records: Iterable[Record]) -> None:
        self.at = min([self.at, *(record.offset for record in records)])

    def lag(self) -> dict[str, int]:
        return {RESULTS: len(self.records) - self.at}


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def settler(unsteady: UnsteadyRedis, topic: Topic, metrics: Metrics) -> Settler:
    return Settler(
        unsteady.client, Room(unsteady.client), cast("EventReader", topic), admission_settings(settle_batch=50), metrics
    )


async def _confirmed(sale: SaleDriver, *ids: str) -> list[OrderConfirmed]:
    records = [await sale.record(each) for each in ids]
    return [
        OrderConfirmed(
            sale_id=sale.id,
            ticket_id=each,
            sku=record.sku,
            buyer_id=record.buyer,
            units=record.units,
            slots=record.slots,
            decided_at_ms=1,
        )
        for each, record in zip(ids, records, strict=True)
    ]


async def _failed(sale: SaleDriver, ticket_id: str, reason: FailureReason) -> OrderFailed:
    [same] = await _confirmed(sale, ticket_id)
    return OrderFailed(
        sale_id=sale.id,
        ticket_id=ticket_id,
        sku=same.sku,
        buyer_id=same.buyer_id,
        units=same.units,
        slots=same.slots,
        reason=reason,
        decided_at_ms=1,
    )


def _applied(sale: SaleDriver, version: int) -> SaleApplied:
    return SaleApplied(sale_id=sale.id, version=version, epoch=0, at_ms=1)


async def test_verdicts_settle_and_a_released_unit_is_free_again(
    new_sale: NewSale, settler: Settler, topic: Topic, metrics: Metrics
) -> None:
    sale = await new_sale(2)
    ids = await sale.reserved("ada", "bob")
    topic.put(*await _confirmed(sale, ids[0]), await _failed(sale, ids[1], "not_writable"))
    assert await settler.run_once() == 2
    assert await sale.states(*ids) == ["CONFIRMED", "RELEASED"]
    assert (await sale.look()).rows[0].free == 1
    assert topic.committed == 2
    assert metrics.registry.get_sample_value("fairline_settled_total", {"sale": sale.id}) == 2


async def test_a_verdict_of_an_order_that_could_not_be_read_still_releases_its_ticket(
    new_sale: NewSale, settler: Settler, topic: Topic
) -> None:
    sale = await new_sale(1)
    [ada] = await sale.reserved("ada")
    # What order_service tells of a garbled order: sale and ticket are all that it could read.
    topic.put(
        OrderFailed(
            sale_id=sale.id,
            ticket_id=ada,
            sku="",
            buyer_id="",
            units=(),
            slots=(),
            reason="not_writable",
            decided_at_ms=1,
        )
    )
    await settler.run_once()
    assert await sale.states(ada) == ["RELEASED"]
    assert (await sale.look()).rows[0].free == 1


async def test_s1_a_result_that_comes_twice_settles_once(
    new_sale: NewSale, settler: Settler, topic: Topic, metrics: Metrics
) -> None:
    sale = await new_sale(3)
    [ticket] = await sale.reserved("ada")
    [verdict] = await _confirmed(sale, ticket)
    topic.put(verdict, verdict, await _failed(sale, ticket, "cancelled"))
    await settler.run_once()
    topic.put(verdict)
    await settler.run_once()
    assert await sale.states(ticket) == ["CONFIRMED"]
    assert metrics.registry.get_sample_value("fairline_settled_total", {"sale": sale.id}) == 1


async def test_o4_an_applied_sale_may_open_and_the_newest_version_counts(
    new_sale: NewSale, settler: Settler, topic: Topic
) -> None:
    sale = await new_sale(3, draft=True)
    await sale.patch(message="Soon")
    topic.put(_applied(sale, 2), _applied(sale, 1))
    await settler.run_once()
    assert await sale.sales.acked(sale.id) == 2
    assert (await sale.change("open")).word == "CHANGED"


async def test_garbage_another_topics_fact_and_an_unknown_sale_are_passed_over(
    new_sale: NewSale, settler: Settler, topic: Topic
) -> None:
    sale = await new_sale(2)
    [ticket] = await sale.reserved("ada")
    [verdict] = await _confirmed(sale, ticket)
    unknown = OrderConfirmed(
        sale_id="nobody-knows-it", ticket_id="t", sku="seat", buyer_id="b", units=(1,), slots=(1,), decided_at_ms=1
    )
    stray = TicketDeclined(
        sale_id=sale.id, ticket_id=ticket, sku="seat", buyer_id="b", quantity=1, arrival=1, reason="x", at_ms=1
    )
    other_sku = OrderConfirmed(
        sale_id=sale.id, ticket_id=ticket, sku="no-such-sku", buyer_id="b", units=(1,), slots=(1,), decided_at_ms=1
    )
    topic.put(None, unknown, stray, other_sku, verdict)
    assert await settler.run_once() == 5
    assert topic.committed == 5
    assert await sale.states(ticket) == ["CONFIRMED"]


async def test_a_verdict_of_a_ticket_nobody_knows_changes_nothing(
    new_sale: NewSale, settler: Settler, topic: Topic
) -> None:
    sale = await new_sale(2)
    unknown = OrderConfirmed(
        sale_id=sale.id, ticket_id="nobodys", sku="seat", buyer_id="b", units=(1,), slots=(1,), decided_at_ms=1
    )
    topic.put(unknown)
    assert await settler.run_once() == 1
    assert (await sale.look()).rows[0].free == 2


async def test_d1_a_halted_sale_holds_up_no_other_and_keeps_its_tickets(
    new_sale: NewSale, settler: Settler, topic: Topic
) -> None:
    halted, healthy = await new_sale(2, damaged=True), await new_sale(2)
    [kept], [settled] = await halted.reserved("ada"), await healthy.reserved("bob")
    topic.put(
        *await _confirmed(halted, kept), _applied(halted, 1), *await _confirmed(healthy, settled), _applied(healthy, 2)
    )
    await halted.raw.hset(halted.keys.meta, "fence", "another")
    assert await settler.run_once() == 4
    assert topic.committed == 4
    assert await halted.states(kept) == ["RESERVED"]
    assert await healthy.states(settled) == ["CONFIRMED"]


async def test_u4_a_unit_that_was_taken_halts_its_sale_and_no_other(
    new_sale: NewSale, settler: Settler, topic: Topic
) -> None:
    damaged, healthy = await new_sale(2, damaged=True), await new_sale(2)
    [lost], [settled] = await damaged.reserved("ada"), await healthy.reserved("bob")
    topic.put(await _failed(damaged, lost, "unit_taken"), _applied(damaged, 1), *await _confirmed(healthy, settled))
    assert await settler.run_once() == 3
    assert await damaged.raw.hget(damaged.keys.meta, "fence") == b"halted"
    assert await damaged.states(lost) == ["RELEASED"]
    assert await damaged.returned() == [], "the unit is not put back"
    assert await healthy.states(settled) == ["CONFIRMED"]


@pytest.mark.parametrize("trouble", ["lose settle", "refuse settle", "lose applied", "refuse applied"])
async def test_redis_away_in_the_middle_commits_nothing_and_settles_later(
    new_sale: NewSale, settler: Settler, topic: Topic, unsteady: UnsteadyRedis, trouble: str
) -> None:
    one, other = await new_sale(2), await new_sale(2)
    [first], [second] = await one.reserved("ada"), await other.reserved("bob")
    topic.put(*await _confirmed(one, first), _applied(one, 2), *await _confirmed(other, second), _applied(other, 2))
    kind, script = trouble.split()
    getattr(unsteady, kind)(script, 2)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await settler.run_once()
        assert topic.committed == 0
    assert await settler.run_once() == 4
    assert topic.committed == 4
    assert await one.states(first) == await other.states(second) == ["CONFIRMED"]


async def test_4_a_copy_that_does_not_reach_redis_leaves_its_results_to_one_that_does_and_comes_back(
    new_sale: NewSale, unsteady: UnsteadyRedis, redis: Redis, topics_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settlers, "AWAY_S", 0.5)
    sale = await new_sale(40)
    ids = await sale.reserved(*(f"buyer-{at}" for at in range(40)))
    group, stopping = f"test-{secrets.token_hex(3)}", asyncio.Event()
    readers = [EventReader(topics_of, [RESULTS], group, f"copy-{at}") for at in range(2)]
    copies = [
        Settler(client, Room(client), reader, admission_settings(), Metrics())
        for client, reader in zip((unsteady.client, redis), readers, strict=True)
    ]
    running = [asyncio.create_task(each.run(stopping)) for each in copies]
    writer = EventWriter(topics_of, "test")

    async def each_has_a_share() -> bool:
        consumers = [reader._consumer for reader in readers]
        return all(consumer and len(consumer.assignment()) == 2 for consumer in consumers)

    async def all_settled() -> bool:
        return await sale.states(*ids) == ["CONFIRMED"] * 40

    try:
        await until(each_has_a_share)
        unsteady.away = True
        assert all(await writer.send(await _confirmed(sale, *ids), 10))
        await until(all_settled)
        unsteady.away = False
        await until(each_has_a_share)
    finally:
        stopping.set()
        await asyncio.gather(*running)
        await writer.close()


async def test_4_a_copy_that_left_the_group_joins_it_again_only_once_redis_answers(
    new_sale: NewSale, settler: Settler, topic: Topic, unsteady: UnsteadyRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await new_sale(1)
    [ada] = await sale.reserved("ada")
    topic.put(*await _confirmed(sale, ada))
    unsteady.away = True
    for away_s, closes in ((60.0, 0), (0.0, 1), (0.0, 2)):
        monkeypatch.setattr(settlers, "AWAY_S", away_s)
        with pytest.raises(UnavailableError):
            await settler.run_once()
        assert (topic.closes, topic.reads) == (closes, 1)
    unsteady.away = False
    assert await settler.run_once() == 1
    assert (topic.closes, topic.reads) == (3, 2)

    topic.put(*await _confirmed(sale, ada))
    unsteady.refuse("settle")
    with pytest.raises(UnavailableError):
        await settler.run_once()
    monkeypatch.setattr(settlers, "AWAY_S", 60.0)
    assert await settler.run_once() == 1
    monkeypatch.setattr(settlers, "AWAY_S", 0.0)
    assert await settler.run_once() == 0
    assert topic.closes == 3, "what is over does not count the next time"


async def test_batches_are_bounded(new_sale: NewSale, settler: Settler, topic: Topic) -> None:
    sale = await new_sale(120)
    ids = await sale.reserved(*(f"buyer-{at}" for at in range(120)))
    topic.put(*await _confirmed(sale, *ids))
    assert [await settler.run_once() for _ in range(4)] == [50, 50, 20, 0]
    assert await sale.states(*ids) == ["CONFIRMED"] * 120


async def test_the_scripts_are_read_once_and_not_for_each_batch(
    new_sale: NewSale, settler: Settler, topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await new_sale(3)
    ids = await sale.reserved("ada", "bob")
    monkeypatch.setattr("admission.stock.Script", lambda *_: pytest.fail("a script was read again"))
    topic.put(*await _confirmed(sale, *ids))
    assert await settler.run_once() == 2
