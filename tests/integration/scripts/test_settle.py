"""settle.lua: the verdict of Postgres is forced on a live ticket and does nothing to another (S1, U2, U4, V8)."""

from collections.abc import Awaitable, Callable
from typing import Literal

import pytest

from admission.stock import Verdict
from fairline.errors import FencedError
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver


async def test_s1_a_confirmed_order_is_final_and_keeps_its_units_and_slots(new_sale: NewSale) -> None:
    sale = await new_sale(3, per_buyer_limit=2)
    [ada] = await sale.reserved("ada", quantity=2)
    reply = await sale.confirm(ada)
    assert (reply.word, reply.count) == ("DONE", 1)
    ticket = await sale.ticket(ada)
    assert (ticket.state, ticket.units, ticket.final, ticket.reason) == ("CONFIRMED", (1, 2), True, None)


async def test_s1_a_failed_order_gives_back_units_and_slots_and_the_buyer_may_try_again(new_sale: NewSale) -> None:
    sale = await new_sale(2, per_buyer_limit=2)
    [ada] = await sale.reserved("ada", quantity=2)
    assert (await sale.release(ada, reason="not_writable")).count == 1
    record = await sale.record(ada)
    assert (record.state, record.reason, record.units, record.slots) == ("RELEASED", "not_writable", (), ())
    assert await sale.returned() == [1, 2]
    assert await sale.redis.hlen(sale.keys.held) == 0
    [again] = await sale.reserved("ada", quantity=2)
    assert (await sale.record(again)).units == (1, 2)


async def test_s1_the_other_slots_of_the_buyer_stay(new_sale: NewSale) -> None:
    sale = await new_sale(4, per_buyer_limit=3)
    await sale.sold("ada")
    [second] = await sale.reserved("ada", quantity=2)
    await sale.release(second)
    [third] = await sale.reserved("ada")
    assert (await sale.record(third)).slots == (2,)


async def _waiting(sale: SaleDriver, ticket_id: str) -> None:
    assert await sale.states(ticket_id) == ["WAITING"]


async def _waiting_again(sale: SaleDriver, ticket_id: str) -> None:
    lease, _ = await sale.admit(1)
    assert await sale.give_back(lease, ticket_id) == ["WAITING"]


async def _admitted(sale: SaleDriver, ticket_id: str) -> None:
    await sale.admit(1)


async def _reserved(sale: SaleDriver, ticket_id: str) -> None:
    lease, _ = await sale.admit(1)
    assert await sale.reserve(lease, ticket_id) == ["RESERVED"]


Bring = Callable[[SaleDriver, str], Awaitable[None]]
LIVE = pytest.mark.parametrize("brought", [_waiting, _waiting_again, _admitted, _reserved])


@LIVE
async def test_s1_confirm_is_forced_on_every_live_state(new_sale: NewSale, brought: Bring) -> None:
    sale = await new_sale(4, per_buyer_limit=2)
    ada, bob = await sale.join("ada", "bob", quantity=2)
    await brought(sale, ada)
    assert (await sale.confirm_as(ada, units=[1, 2], slots=[1, 2])).count == 1
    record = await sale.record(ada)
    assert (record.state, record.units, record.slots, record.lease) == ("CONFIRMED", (1, 2), (1, 2), "")
    assert [await sale.item(field) for field in ("next", "claims", "back", "served")] == [3, 0, 0, 1]
    assert ((await sale.ticket(bob)).position, await sale.outlook()) == (1, "available")
    lease, reply = await sale.admit()
    assert reply.ids == [bob]
    assert await sale.reserve(lease, bob) == ["RESERVED"]
    assert (await sale.record(bob)).units == (3, 4)


@LIVE
async def test_s1_release_is_forced_on_every_live_state(new_sale: NewSale, brought: Bring) -> None:
    sale = await new_sale(4, per_buyer_limit=2)
    ada, _ = await sale.join("ada", "bob", quantity=2)
    await brought(sale, ada)
    assert (await sale.release(ada, reason="cancelled")).count == 1
    assert (await sale.record(ada)).reason == "cancelled"
    assert [await sale.item(field) for field in ("claims", "back", "served")] == [0, 0, 1]
    assert (await sale.look()).rows[0].free == 4


async def test_s1_a_verdict_does_nothing_to_a_terminal_or_unknown_ticket(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    confirmed, released = await sale.reserved("ada", "bob")
    await sale.confirm(confirmed)
    await sale.release(released)
    declined, left, lapsed = await sale.join("cy", "dee", "eve")
    await sale.room.leave(sale.id, left, "seat")
    lease, _ = await sale.admit()
    await sale.decline(lease, declined)
    await sale.end_leases(lapsed)
    await sale.reap(max_tries=1)
    [swept] = await sale.join("fay")
    await sale.set_stock(1, version=1)
    assert await sale.sweep() == 1
    ids = (confirmed, released, declined, left, lapsed, swept)
    before = await sale.states(*ids)
    assert before == ["CONFIRMED", "RELEASED", "DECLINED", "LEFT", "LAPSED", "SOLD_OUT"]
    events: tuple[Literal["confirm", "release"], ...] = ("confirm", "release")
    for event in events:
        for reason in ("", "unit_taken"):
            verdicts = [Verdict(each, event, (7,), (1,), reason) for each in (*ids, "nobody")]
            reply = await sale.stock.settle(verdicts)
            assert (reply.word, reply.count) == ("DONE", 0)
    assert await sale.states(*ids) == before


async def test_u2_an_old_release_frees_nothing_of_who_holds_the_unit_now(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.reserved("ada")
    await sale.release(ada)
    [bob] = await sale.reserved("bob")
    await sale.release(ada)
    assert (await sale.returned(), (await sale.record(bob)).units) == ([], (1,))


async def test_s1_another_unit_than_the_one_held_is_sold_and_the_held_one_goes_back(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=2)
    ada, bob, cy = await sale.reserved("ada", "bob", "cy")
    await sale.release(bob)
    assert await sale.returned() == [2]
    await sale.confirm_as(ada, units=[2], slots=[1])
    assert await sale.returned() == [1], "unit 2 came back and is sold after all"
    await sale.confirm_as(cy, units=[6], slots=[2])
    assert (await sale.returned(), await sale.item("next")) == ([1, 3, 4, 5], 7)
    record = await sale.record(cy)
    assert (record.units, record.slots) == ((6,), (2,))


async def test_q1_an_order_of_fewer_units_than_redis_remembers_is_what_was_bought(new_sale: NewSale) -> None:
    sale = await new_sale(3, per_buyer_limit=3)
    [ada] = await sale.join("ada", quantity=3, fewer=True)
    assert (await sale.confirm_as(ada, units=[1, 2], slots=[1, 2])).word == "DONE"  # Redis forgot that it was admitted
    assert ((await sale.ticket(ada)).quantity, (await sale.record(ada)).units) == (2, (1, 2))
    assert (await sale.look()).rows[0].free == 1


async def test_u3_a_confirmed_unit_beyond_the_stock_puts_nothing_on_sale_that_is_not(new_sale: NewSale) -> None:
    sale = await new_sale(3, damaged=True)
    [ada] = await sale.reserved("ada")
    await sale.confirm_as(ada, units=[9], slots=[1])
    assert await sale.returned() == [1, 2, 3]
    assert (await sale.look()).rows[0].free == 3


async def test_u4_unit_taken_is_not_put_back_and_halts_the_sale(new_sale: NewSale) -> None:
    sale = await new_sale(3, damaged=True)
    ada, bob, cy = await sale.reserved("ada", "bob", "cy")
    reply = await sale.stock.settle(
        [
            Verdict(ada, "release", (), (), "unit_taken"),
            Verdict(bob, "release", (), (), "not_writable"),
        ]
    )
    assert (reply.word, reply.count) == ("HALTED", 2)
    assert await sale.states(ada, bob, cy) == ["RELEASED", "RELEASED", "RESERVED"]
    assert await sale.returned() == [2]
    assert await sale.redis.hmget(sale.keys.meta, "fence", "halted_because") == [b"halted", b"unit_taken"]
    with pytest.raises(FencedError):
        await sale.confirm(cy)
    assert await sale.states(cy) == ["RESERVED"]
    identity = (await sale.redis.info("replication"))["master_replid"]
    assert sale.id not in await sale.sales.adopt(identity), "a halt of its own is not lifted by adopting"


async def test_v8_a_reserved_ticket_ends_by_no_clock(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.reserved("ada")
    await sale.redis.zadd(sale.keys.reserved, {ada: 0})
    for _ in range(20):
        await sale.reap(max_tries=1)
        await sale.redrive(redrive_ms=0, longest_ms=0)
    await sale.change("end")
    await sale.close()
    await sale.sweep()
    assert await sale.states(ada) == ["RESERVED"]


async def test_verdicts_of_several_skus_and_tickets_are_settled_in_one_call(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 2, "table": 2})
    [a] = await sale.join("ada", sku="chair")
    [b] = await sale.join("ada", sku="table")
    [c] = await sale.join("bob", sku="table")
    lease, _ = await sale.admit()
    await sale.reserve(lease, a, b, c)
    reply = await sale.stock.settle(
        [
            Verdict(b, "release", (), (), "not_writable"),
            Verdict(a, "confirm", (1,), (1,), ""),
            Verdict(b, "confirm", (1,), (1,), ""),
        ]
    )
    assert reply.count == 2
    assert await sale.states(a, b, c) == ["CONFIRMED", "RELEASED", "RESERVED"]
    assert [await sale.returned(sku) for sku in sale.skus] == [[], [1]]
