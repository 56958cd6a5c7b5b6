"""One sale compared with what Postgres says of it, on a real Redis; Postgres is a ledger that the test writes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from admission.reconcile.census import Census
from admission.reconcile.comparison import Comparison, UnknownSaleError, finding
from admission.reconcile.reconciler import Reconciler
from admission.records import Ended, Known, Order
from fairline.errors import FencedError, UnavailableError
from fairline.events import ItemState, OrderPlaced, SaleChanged
from fairline.runtime.metrics import Metrics
from fairline.store.room import Room
from tests.integration.admission.conftest import NewSale
from tests.support.admission import until
from tests.support.rebuilt import rebuilt
from tests.support.sale import SaleDriver


class Postgres:
    """What the order service would answer of one sale."""

    def __init__(self, sale: SaleDriver) -> None:
        self._sale = sale
        self.rows: dict[str, Ended] = {}
        self.away = False
        self.known_here = True
        self.on_each_read: Any = None

    async def known(self, sale_id: str) -> Known | None:
        """The sale with its stock as it was made."""
        if self.away:
            raise UnavailableError
        if self.on_each_read is not None:
            await self.on_each_read()
        items = [
            ItemState(sku=s.sku, name=s.name, stock=s.stock, high=s.stock, version=0)
            for s in self._sale.definition.items
        ]
        changed = SaleChanged(
            sale_id=sale_id, version=2, epoch=0, action="open", reason="", state="open", name="x", per_buyer_limit=1,
            message="", when_sold_out="close_line", validator="", items=tuple(items), at_ms=1,
        )  # fmt: skip
        return Known(0, 2, changed) if self.known_here else None

    async def ended(self, _: str) -> AsyncIterator[Ended]:
        """All rows."""
        for row in list(self.rows.values()):
            yield row

    async def write(self, *ticket_ids: str, failed: bool = False) -> None:
        """Verdicts of the orders of these tickets; Redis is not told."""
        for ticket_id in ticket_ids:
            record = await self._sale.record(ticket_id)
            units, slots = ((), ()) if failed else (record.units, record.slots)
            verdict = Order("failed" if failed else "confirmed", units, slots, 0, 1)
            outcome, reason = ("RELEASED", "not_writable") if failed else ("CONFIRMED", "")
            self.rows[ticket_id] = Ended(
                ticket_id, outcome, record.sku, record.buyer, record.quantity, record.arrival, reason, 5, verdict
            )

    async def confirm(self, *ticket_ids: str) -> None:
        """Write them and carry the verdicts out, as the settler does."""
        await self.write(*ticket_ids)
        await self._sale.confirm(*ticket_ids)


def comparison_of(sale: SaleDriver, postgres: Any, apart_s: float = 0.0) -> Comparison:
    return Comparison(Census(sale.redis, sale.id, sale.skus), sale.stock, postgres, apart_s=apart_s)


async def kinds(comparison: Comparison) -> list[tuple[str, str]]:
    return [(each.kind, each.subject) for each in await comparison.differences()]


async def test_a_sale_of_which_all_agree_has_no_difference(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    postgres = Postgres(sale)
    ids = await sale.reserved("ada", "bob", "cy")
    await postgres.confirm(ids[0])
    await postgres.write(ids[1], failed=True)
    await sale.release(ids[1])
    await sale.join("dee")
    assert await comparison_of(sale, postgres).differences() == []


async def test_c1_those_who_have_not_come_since_a_rebuild_are_counted_as_waiting(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    await sale.join("ada", "bob", "cy")
    await rebuilt(sale)
    assert await sale.admitted(2) == [], "two are met and wait apart"
    assert len(await sale.line()) == 1
    assert await comparison_of(sale, Postgres(sale)).differences() == []


async def test_c2_a_sale_that_is_being_archived_is_not_compared_any_more(new_sale: NewSale) -> None:
    sale = await new_sale(5, damaged=True)
    postgres = Postgres(sale)
    await postgres.confirm(*await sale.reserved("ada", "bob", "cy"))
    await sale.change("end")
    await sale.acknowledge()
    await sale.relay()
    assert await sale.closed() == "CLOSED"
    await sale.archive("first", most=2)
    await sale.stock.unlink("first")
    assert await Census(sale.redis, sale.id, sale.skus).balance() != [], "its counters say more than its records"
    found = await comparison_of(sale, postgres).differences()
    assert found == [], "and nobody must mend that"


async def test_what_is_under_way_while_it_looks_is_no_difference(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    postgres = Postgres(sale)
    [ada] = await sale.reserved("ada")
    await postgres.write(ada)  # and the result is on its way
    looks = 0

    async def the_settler_works() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            await sale.confirm(ada)

    postgres.on_each_read = the_settler_works
    assert await comparison_of(sale, postgres).differences() == []
    assert looks == 2, "it looked twice, because the first look found something"


async def test_each_damage_is_found_said_and_mended_and_the_second_time_it_is_gone(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=2)
    postgres = Postgres(sale)
    ids = await sale.reserved("ada", "bob", "cy", "dee", "eve")
    await postgres.confirm(*ids[:2])
    await postgres.write(ids[2])  # a result that nobody reads
    await postgres.write(ids[3], failed=True)
    await sale.redis.zrem(sale.keys.reserved, ids[4])
    await sale.redis.zadd(sale.keys.returned[0], {"1": 1})
    await sale.redis.hset(sale.keys.items, "seat:next", 8)  # 6 and 7 are in no hand
    await sale.redis.hset(sale.keys.held, "seat:gil", b"\x91\x02")
    await sale.redis.hdel(sale.keys.held, "seat:bob")
    comparison = comparison_of(sale, postgres)
    expected = {
        ("verdict_unsettled", ids[2]),
        ("verdict_unsettled", ids[3]),
        ("order_unsent", ids[4]),
        ("unit_free", "1"),
        ("unit_lost", "6"),
        ("unit_lost", "7"),
        ("slot_lost", "gil"),
        ("slot_free", "bob"),
    }
    assert set(await kinds(comparison)) == expected
    found = await comparison.differences()
    assert {finding(each).done for each in found} == {"can be mended"}
    assert {each.done for each in await comparison.repair(found)} == {"mended"}
    assert await sale.states(*ids) == ["CONFIRMED", "CONFIRMED", "CONFIRMED", "RELEASED", "RESERVED"]
    assert await sale.returned() == [4, 6, 7]
    assert await kinds(comparison) == []
    assert {each.done for each in await comparison.repair(found)} == {"gone", "mended"}, (
        "a verdict may be carried out again"
    )
    assert await kinds(comparison) == []


async def test_what_is_not_safe_is_left_and_said(new_sale: NewSale) -> None:
    sale = await new_sale(9, damaged=True)
    postgres = Postgres(sale)
    ids = await sale.reserved("ada", "bob")
    await postgres.confirm(*ids)
    del postgres.rows[ids[0]]
    await sale.redis.hincrby(sale.keys.counts, "seat:WAITING", 1)
    comparison = comparison_of(sale, postgres)
    found = await comparison.repair(await comparison.differences())
    assert {(each.difference.kind, each.done) for each in found} == {("row_missing", "left"), ("count_differs", "left")}
    assert all(each.cause and each.remedy for each in found)


async def test_a_unit_that_is_sold_between_looking_and_mending_is_not_put_back(new_sale: NewSale) -> None:
    sale = await new_sale(3)
    postgres = Postgres(sale)
    [ada] = await sale.reserved("ada")
    await postgres.confirm(ada)
    row = postgres.rows.pop(ada)
    packed = await sale.raw.hget(sale.keys.tickets, ada)
    await sale.redis.hdel(sale.keys.tickets, ada)  # as if the scan had missed it
    comparison = comparison_of(sale, postgres)
    found = [each for each in await comparison.differences() if each.kind == "unit_lost"]
    assert [each.subject for each in found] == ["1"]

    async def it_is_written_now() -> None:
        postgres.rows[ada] = row

    postgres.on_each_read = it_is_written_now
    [unit] = await comparison.repair(found)
    assert (unit.done, await sale.returned()) == ("gone", [])
    await sale.redis.hset(sale.keys.tickets, ada, packed)


async def test_d2_what_was_looked_at_before_a_rebuild_is_not_mended_after_it(new_sale: NewSale) -> None:
    sale = await new_sale(3)
    postgres = Postgres(sale)
    [ada] = await sale.reserved("ada")
    await sale.release(ada)
    await postgres.write(ada, failed=True)
    await sale.redis.zrem(sale.keys.returned[0], 1)  # the damage
    comparison = comparison_of(sale, postgres)
    found = await comparison.differences()
    assert [(each.kind, each.subject) for each in found] == [("unit_lost", "1")]

    async def it_is_rebuilt_and_the_unit_sold_again() -> None:
        postgres.on_each_read = None
        await rebuilt(sale)
        await sale.redis.zadd(sale.keys.returned[0], {"1": 1})
        [bob] = await sale.sold("bob")
        assert (await sale.record(bob)).units == (1,)

    postgres.on_each_read = it_is_rebuilt_and_the_unit_sold_again
    [unit] = await comparison.repair(found)
    assert (unit.done, await sale.returned()) == ("gone", []), "Postgres was read before, and would refuse the next one"


async def test_a_lively_sale_never_differs(new_sale: NewSale) -> None:
    sale = await new_sale(200)
    postgres = Postgres(sale)
    over = asyncio.Event()

    async def live() -> None:
        at = 0
        while not over.is_set():
            at += 1
            ids = await sale.join(*(f"b{at}-{each}" for each in range(4)))
            lease, grant = await sale.admit()
            mine = [each for each in grant.ids if each in ids]
            if not mine:
                return
            words = await sale.reserve(lease, *mine)
            got = [each for each, word in zip(mine, words, strict=True) if word == "RESERVED"]
            await postgres.write(*got[:-1])
            await sale.confirm(*got[:-1])
            await postgres.write(*got[-1:], failed=True)
            await sale.release(*got[-1:])

    living = asyncio.create_task(live())
    comparison = comparison_of(sale, postgres, apart_s=0.2)
    for _ in range(5):
        assert await kinds(comparison) == []
    over.set()
    await living
    assert postgres.rows


async def test_o1_an_order_is_looked_for_in_the_outbox_and_on_kafka(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    postgres = Postgres(sale)
    ada, bob, cy = await sale.reserved("ada", "bob", "cy")
    await postgres.write(ada)
    comparison = comparison_of(sale, postgres)

    async def none_on_kafka() -> set[str]:
        return set()

    async def unreadable() -> None:
        return None

    assert await comparison.lost_orders(none_on_kafka) == [], "all are in the outbox"
    sent = [fact.ticket_id for fact in await sale.relay() if isinstance(fact, OrderPlaced)]
    assert set(sent) == {ada, bob, cy}

    async def bob_on_kafka() -> set[str]:
        return {bob}

    assert [each.subject for each in await comparison.lost_orders(bob_on_kafka)] == [cy]
    assert await comparison.lost_orders(unreadable) == [], "who has not read all of it cannot say that one is lost"


async def test_d1_a_halted_sale_is_not_compared(new_sale: NewSale) -> None:
    sale = await new_sale(9, damaged=True)
    await sale.redis.hset(sale.keys.meta, "fence", "another")
    with pytest.raises(FencedError):
        await comparison_of(sale, Postgres(sale)).differences()


async def test_a_sale_that_postgres_does_not_know_cannot_be_compared(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    postgres = Postgres(sale)
    postgres.known_here = False
    with pytest.raises(UnknownSaleError):
        await comparison_of(sale, postgres).differences()


async def test_one_copy_compares_and_all_show_it(new_sale: NewSale, redis: Redis) -> None:
    sale = await new_sale(9)
    postgres = Postgres(sale)
    [ada] = await sale.reserved("ada")
    await postgres.write(ada)
    compared: list[str] = []

    def copy_of(name: str) -> tuple[Reconciler, Metrics]:
        async def comparison(sale_id: str) -> Comparison | None:
            if sale_id != sale.id:
                return None
            compared.append(name)
            return comparison_of(sale, postgres)

        metrics = Metrics()
        return Reconciler(redis, Room(redis), comparison, metrics, every_s=60), metrics

    copies = [copy_of("one"), copy_of("two")]
    for reconciler, _ in copies * 2:
        assert await reconciler.run_once() == 0
    assert compared == ["one"], "the others wait until a minute is over"
    for _, metrics in copies:
        value = metrics.registry.get_sample_value
        assert value("fairline_differences", {"sale": sale.id, "kind": "verdict_unsettled"}) == 1
        assert value("fairline_differences", {"sale": sale.id, "kind": "unit_lost"}) == 0
    result = json.loads(await sale.raw.get(sale.keys.compared))
    assert result["kinds"] == {"verdict_unsettled": 1}
    await sale.confirm(ada)
    await redis.delete(sale.keys.comparing)  # a minute later
    for reconciler, metrics in copies:
        await reconciler.run_once()
        assert (
            metrics.registry.get_sample_value("fairline_differences", {"sale": sale.id, "kind": "verdict_unsettled"})
            == 0
        )


async def test_a_server_that_is_away_delays_the_comparison_and_ends_nothing(new_sale: NewSale, redis: Redis) -> None:
    sale = await new_sale(9)
    postgres = Postgres(sale)
    postgres.away = True

    async def comparison(sale_id: str) -> Comparison | None:
        return comparison_of(sale, postgres) if sale_id == sale.id else None

    metrics, stopping = Metrics(), asyncio.Event()
    running = asyncio.create_task(Reconciler(redis, Room(redis), comparison, metrics, every_s=1).run(stopping))
    await asyncio.sleep(0)
    postgres.away = False

    async def shown() -> bool:
        return metrics.registry.get_sample_value("fairline_compared_timestamp_seconds", {"sale": sale.id}) is not None

    await until(shown)
    stopping.set()
    await running


async def test_a_sale_that_redis_has_lost_is_halted_and_ends_no_process(new_sale: NewSale) -> None:
    """Redis was emptied and is the same instance still: there is no fence that could differ."""
    sale = await new_sale(5, damaged=True)
    await sale.redis.delete(sale.keys.items)
    with pytest.raises(FencedError):
        await comparison_of(sale, Postgres(sale)).differences()
