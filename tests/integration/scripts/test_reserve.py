"""reserve.lua: an admission becomes units, slots and an order, all or nothing for each ticket (L2, U1, V2)."""

import pytest

from fairline.events import OrderPlaced, TicketDeclined
from tests.integration.scripts.conftest import NewSale


async def test_units_and_slots_are_taken_and_the_order_is_in_the_outbox(new_sale: NewSale) -> None:
    sale = await new_sale(5, per_buyer_limit=2)
    await sale.relay()
    [ada] = await sale.join("ada", quantity=2)
    lease, _ = await sale.admit()
    assert await sale.reserve(lease, ada) == ["RESERVED"]
    [order] = await sale.relay()
    record = await sale.record(ada)
    assert order == OrderPlaced(
        sale_id=sale.id,
        ticket_id=ada,
        sku="seat",
        buyer_id="ada",
        units=(1, 2),
        slots=(1, 2),
        epoch=0,
        arrival=1,
        number=1,
        reserved_at_ms=record.changed_ms,
    )
    assert (record.state, record.units, record.slots, record.sends) == ("RESERVED", (1, 2), (1, 2), 1)


async def test_l2_a_second_reserve_under_the_lease_says_the_same_and_takes_nothing(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    [ada] = await sale.join("ada")
    lease, _ = await sale.admit()
    await sale.relay()
    for _ in range(2):
        assert await sale.reserve(lease, ada, ada) == ["RESERVED", "RESERVED"]
    assert (await sale.item("next"), len(await sale.relay())) == (2, 1)


async def test_l2_another_lease_and_another_state_change_nothing(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    ada, bob = await sale.join("ada", "bob")
    lease, _ = await sale.admit(1)
    assert await sale.reserve("another", ada) == ["STALE"]
    assert await sale.reserve(lease, bob, "nobody") == ["STALE", "STALE"]
    assert await sale.reserve("", bob) == ["STALE"], "a waiting ticket has no lease, which is no lease to use"
    await sale.reserve(lease, ada)
    assert await sale.reserve("another", ada) == ["STALE"]
    await sale.confirm(ada)
    assert await sale.reserve(lease, ada) == ["STALE"]
    assert await sale.item("next") == 2


async def test_l2_an_ended_lease_reserves_nothing_once_the_ticket_is_in_other_hands(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    [ada] = await sale.join("ada")
    slow, _ = await sale.admit()
    await sale.end_leases(ada)
    await sale.reap()
    assert await sale.reserve(slow, ada) == ["STALE"]
    quick, _ = await sale.admit()
    assert await sale.reserve(slow, ada) == ["STALE"]
    assert await sale.decline(slow, ada) == ["STALE"]
    assert await sale.give_back(slow, ada) == ["STALE"]
    assert await sale.reserve(quick, ada) == ["RESERVED"]


async def test_l2_a_retry_after_part_of_the_batch_was_decided_says_what_became_of_each(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=1)
    a, b, c, d = await sale.join("ada", "bob", "cy", "dee")
    lease, _ = await sale.admit()
    await sale.redis.hset(sale.keys.held, "seat:cy", b"\x91\x01")  # cy bought elsewhere, as after a recovery
    first = await sale.reserve(lease, a, b, c)
    await sale.confirm(a)
    assert first == ["RESERVED", "RESERVED", "DECLINED"]
    assert await sale.reserve(lease, a, b, c, d) == ["STALE", "RESERVED", "DECLINED", "RESERVED"]
    await sale.redis.hdel(sale.keys.held, "seat:cy")


async def test_l7_the_limit_is_checked_again_where_the_unit_is_taken(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=2)
    [ada] = await sale.join("ada", quantity=2)
    lease, _ = await sale.admit()
    await sale.redis.hset(sale.keys.held, "seat:ada", b"\x91\x02")
    await sale.relay()
    assert await sale.reserve(lease, ada) == ["DECLINED"]
    [fact] = await sale.relay()
    assert isinstance(fact, TicketDeclined)
    assert (fact.reason, fact.quantity) == ("over_limit", 2)
    assert (await sale.item("claims"), await sale.item("next")) == (0, 1)
    await sale.redis.hdel(sale.keys.held, "seat:ada")
    [bob] = await sale.join("bob")
    lease, _ = await sale.admit()
    await sale.redis.hset(sale.keys.held, "seat:bob", b"\x92\x02\x01")
    assert await sale.reserve(lease, bob) == ["DECLINED"]
    assert (await sale.record(bob)).reason == "already_bought"
    await sale.redis.hdel(sale.keys.held, "seat:bob")


async def test_q1_who_takes_fewer_gets_as_many_as_a_buyer_may_still_have(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=3)
    [ada] = await sale.join("ada", quantity=3, fewer=True)
    [bob] = await sale.join("bob", quantity=3, fewer=True)
    lease, _ = await sale.admit()
    await sale.redis.hset(sale.keys.held, "seat:ada", b"\x91\x02")  # bought elsewhere, as after a recovery
    await sale.redis.hset(sale.keys.held, "seat:bob", b"\x93\x01\x02\x03")
    await sale.relay()
    assert await sale.reserve(lease, ada, bob) == ["RESERVED", "DECLINED"]
    record = await sale.record(ada)
    assert (record.quantity, record.units, record.slots) == (2, (1, 2), (1, 3))
    assert (await sale.item("claims"), await sale.item("next")) == (0, 3)
    placed, declined = await sale.relay()
    assert isinstance(placed, OrderPlaced)
    assert isinstance(declined, TicketDeclined)
    assert (placed.units, placed.slots, declined.reason) == ((1, 2), (1, 3), "already_bought")
    await sale.redis.hset(sale.keys.held, "seat:ada", b"\x92\x01\x03")
    await sale.redis.hdel(sale.keys.held, "seat:bob")


async def test_u1_what_came_back_is_sold_again_smallest_first_then_new_serials(new_sale: NewSale) -> None:
    sale = await new_sale(5, per_buyer_limit=3)
    held = await sale.reserved("ada", "bob", "cy")
    await sale.release(held[2])
    await sale.release(held[0])
    assert await sale.returned() == [1, 3]
    [dee] = await sale.reserved("dee", quantity=3)
    assert (await sale.record(dee)).units == (1, 3, 4)
    [eve] = await sale.reserved("eve")
    assert (await sale.record(eve)).units == (5,)
    assert await sale.outlook() == "all_reserved"


async def test_v2_the_smallest_free_slots_are_taken(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=4)
    [first] = await sale.reserved("ada", quantity=2)
    await sale.confirm(first)
    [second] = await sale.reserved("ada")
    assert (await sale.record(second)).slots == (3,)
    await sale.confirm(second)
    [third] = await sale.reserved("ada")
    assert (await sale.record(third)).slots == (4,)
    await sale.release(third)
    [fourth] = await sale.reserved("ada")
    assert (await sale.record(fourth)).slots == (4,)


async def test_v2_a_slot_in_the_middle_that_is_free_is_taken_first(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=4, damaged=True)
    await sale.redis.hset(sale.keys.held, "seat:ada", b"\x92\x03\x01")
    [ada] = await sale.reserved("ada", quantity=2)
    assert (await sale.record(ada)).slots == (2, 4)


@pytest.mark.parametrize("action", ["pause", "end"])
async def test_e4_who_is_admitted_may_finish_when_the_sale_stops(new_sale: NewSale, action: str) -> None:
    sale = await new_sale(2)
    [ada] = await sale.join("ada")
    lease, _ = await sale.admit()
    await sale.change(action)  # type: ignore[arg-type]  # both are actions
    assert await sale.reserve(lease, ada) == ["RESERVED"]


async def test_without_units_enough_nothing_is_changed_and_the_next_ticket_is_tried(new_sale: NewSale) -> None:
    sale = await new_sale(3, per_buyer_limit=2)
    [big] = await sale.join("big", quantity=2)
    [ada] = await sale.join("ada")
    lease, _ = await sale.admit()
    await sale.redis.hset(sale.keys.items, "seat:next", 3)  # two units gone, as after lost data
    assert await sale.reserve(lease, big, ada) == ["NO_UNIT", "RESERVED"]
    assert await sale.states(big, ada) == ["ADMITTED", "RESERVED"]
    assert await sale.item("claims") == 2
    await sale.redis.zadd(sale.keys.returned[0], {"1": 1, "2": 2})
    assert await sale.reserve(lease, big) == ["RESERVED"]


async def test_tickets_of_several_skus_are_reserved_in_one_call(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 2, "table": 2})
    [a] = await sale.join("ada", sku="table")
    [b] = await sale.join("ada", sku="chair")
    lease, _ = await sale.admit()
    assert await sale.reserve(lease, b, a) == ["RESERVED", "RESERVED"]
    assert [await sale.item("next", sku) for sku in sale.skus] == [2, 2]


async def test_the_order_carries_the_epoch_of_today(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    [ada] = await sale.join("ada")
    await sale.redis.hset(sale.keys.meta, "epoch", 4)
    lease, _ = await sale.admit()
    await sale.reserve(lease, ada)
    order = (await sale.relay())[-1]
    assert isinstance(order, OrderPlaced)
    assert (order.epoch, order.arrival) == (4, 1)
