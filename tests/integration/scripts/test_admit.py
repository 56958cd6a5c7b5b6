"""admit.lua: who goes, in which order; never more than capacity, units and outbox allow (L1, L3, L6, Q1, O1)."""

import msgspec
import pytest

from fairline.events import TicketDeclined
from fairline.store.keys import SaleKeys
from fairline.store.tickets import Join
from tests.integration.scripts.conftest import NewSale


async def test_tickets_go_by_arrival_over_all_skus(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 9, "table": 9})
    joins = [Join(f"t{n}", ("chair", "table")[n % 3 == 0], f"buyer-{n}", 1) for n in range(8)]
    await sale.room.join(sale.id, joins, max_waiting=10)
    _, reply = await sale.admit()
    assert [(each.ticket_id, each.sku, each.arrival, each.tries) for each in reply.tickets] == [
        (name, sku, at, 1) for at, (name, sku, *_) in enumerate(joins, 1)
    ]
    assert await sale.count("admitted_total", "chair") == 5


async def test_l1_the_same_lease_brings_the_same_tickets_and_admits_nobody_else(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    await sale.join("ada", "bob", "cy")
    lease, first = await sale.admit(2)
    _, again = await sale.admit(2, lease=lease)
    assert (again.word, again.tickets, again.in_flight) == ("ADMITTED", first.tickets, 2)
    await sale.change("pause")
    assert await sale.admitted(2, lease=lease) == first.ids, "also when nobody else is admitted now"
    await sale.reserve(lease, first.ids[0])
    assert await sale.admitted(2, lease=lease) == first.ids[1:], "less those that were decided since"
    await sale.give_back(lease, first.ids[1])
    assert await sale.admitted(2, lease=lease) == []


async def test_l1_a_lease_that_was_given_to_nobody_may_be_asked_for_again(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    lease, reply = await sale.admit()
    assert (reply.word, reply.tickets, reply.in_flight) == ("ADMITTED", [], 0)
    ids = await sale.join("ada")
    assert await sale.admitted(lease=lease) == ids


async def test_l1_the_memory_of_a_lease_outlives_it_and_ends(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    await sale.join("ada")
    lease, _ = await sale.admit(lease_ms=60_000)
    ttl_ms = await sale.redis.pttl(SaleKeys(sale.id, lease=lease).grant)
    assert 60_000 < ttl_ms <= 120_000


async def test_l1_a_ticket_under_another_lease_now_is_not_told_to_the_first(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    [ada] = await sale.join("ada")
    old, _ = await sale.admit()
    await sale.end_leases(ada)
    await sale.reap()
    _, new = await sale.admit()
    assert new.ids == [ada]
    assert new.tickets[0].tries == 2
    assert await sale.admitted(lease=old) == []


@pytest.mark.parametrize("state", ["draft", "paused", "ended", "closed"])
async def test_nobody_is_admitted_unless_the_sale_is_open(new_sale: NewSale, state: str) -> None:
    sale = await new_sale(9)
    await sale.join("ada", "bob")
    await sale.admit(1)
    await sale.redis.hset(sale.keys.meta, "state", state)
    _, reply = await sale.admit()
    assert (reply.word, reply.tickets, reply.in_flight) == ("NOT_OPEN", [], 1)


async def test_o1_a_full_outbox_stops_admission_until_the_relay_has_caught_up(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    await sale.join("ada")
    waiting = await sale.redis.xlen(sale.keys.outbox)
    assert (await sale.admit(outbox_limit=waiting))[1].word == "OUTBOX_FULL"
    assert (await sale.admit(outbox_limit=waiting + 1))[1].word == "ADMITTED"
    await sale.join("bob")
    await sale.relay()
    assert len((await sale.admit(outbox_limit=1))[1].ids) == 1


async def test_l3_capacity_is_the_number_of_leases_in_redis(new_sale: NewSale) -> None:
    sale = await new_sale(9, capacity=2)
    a, b, c, d, e, f = await sale.join("ada", "bob", "cy", "dee", "eve", "fay")
    lease, reply = await sale.admit()
    assert (reply.ids, reply.in_flight) == ([a, b], 2)
    assert await sale.admitted() == []
    await sale.reserve(lease, a)
    assert await sale.admitted() == [c]
    await sale.decline(lease, b)
    assert await sale.admitted() == [d]
    await sale.patch(capacity=1)
    assert (await sale.admitted(), (await sale.admit())[1].in_flight) == ([], 2), "less than is in flight"
    await sale.patch(capacity=None)
    assert await sale.admitted() == [e, f]


async def test_l3_an_ended_lease_counts_until_it_is_reaped(new_sale: NewSale) -> None:
    sale = await new_sale(9, capacity=1)
    ada, _ = await sale.join("ada", "bob")
    await sale.admit()
    await sale.end_leases(ada)
    assert await sale.admitted() == []
    await sale.reap()
    assert await sale.admitted() == [ada]


async def test_l6_no_more_are_admitted_than_there_are_unclaimed_units(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    a, b, c, d = await sale.join("ada", "bob", "cy", "dee")
    first, reply = await sale.admit()
    assert reply.ids == [a, b]
    assert await sale.admitted() == []
    await sale.decline(first, a)
    second, reply = await sale.admit()
    assert reply.ids == [c]
    await sale.reserve(first, b)
    assert await sale.admitted() == [], "a reserved unit is not free"
    await sale.release(b)
    assert await sale.admitted() == [d]
    assert await sale.reserve(second, c) == ["RESERVED"]


async def test_l6_a_sku_without_units_is_skipped_and_the_others_go_by_arrival(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 1, "table": 2, "lamp": 0})
    joins = [
        ("a", "chair"),
        ("b", "chair"),
        ("c", "lamp"),
        ("d", "table"),
        ("e", "chair"),
        ("f", "table"),
        ("g", "table"),
    ]
    await sale.set_stock(1, version=1, sku="lamp")  # not known to Postgres yet: joinable, but nothing to sell
    await sale.room.join(sale.id, [Join(name, sku, f"buyer-{name}", 1) for name, sku in joins], max_waiting=9)
    assert await sale.admitted() == ["a", "d", "f"]


async def test_most_bounds_one_call(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    ids = await sale.join("ada", "bob", "cy")
    assert await sale.admitted(0) == []
    assert [await sale.admitted(1) for _ in range(4)] == [[ids[0]], [ids[1]], [ids[2]], []]


async def test_a_line_longer_than_a_page_is_read_to_its_end_in_order(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 999, "table": 999})
    joins = [Join(f"t{n:03}", ("chair", "table")[n % 2], f"buyer-{n}", 1) for n in range(600)]
    await sale.room.join(sale.id, joins, max_waiting=999)
    assert await sale.admitted(257) == [name for name, *_ in joins[:257]]
    assert await sale.admitted() == [name for name, *_ in joins[257:]]


async def test_q1_who_wants_more_than_is_unclaimed_waits_while_units_may_come_back(new_sale: NewSale) -> None:
    sale = await new_sale(3, per_buyer_limit=3)
    [ada] = await sale.join("ada")
    [big] = await sale.join("big", quantity=3)
    [cy] = await sale.join("cy")
    lease, reply = await sale.admit()
    assert reply.ids == [ada], "cy waits behind big"
    assert await sale.admitted() == []
    await sale.reserve(lease, ada)
    assert await sale.admitted() == []
    await sale.release(ada)
    lease, reply = await sale.admit()
    assert reply.ids == [big], "the unit came back, so big has three"
    await sale.reserve(lease, big)
    assert (await sale.record(big)).units == (1, 2, 3)
    assert await sale.states(cy) == ["WAITING"]


async def test_q1_who_wants_more_than_can_ever_come_is_declined_and_the_next_one_goes(new_sale: NewSale) -> None:
    sale = await new_sale(3, per_buyer_limit=3)
    [ada] = await sale.join("ada")
    big, huge = await sale.join("big", "huge", quantity=3)
    [cy] = await sale.join("cy")
    lease, _ = await sale.admit()
    await sale.reserve(lease, ada)
    await sale.confirm(ada)
    await sale.relay()
    _, reply = await sale.admit()
    assert reply.ids == [cy]
    for each in (big, huge):
        record = await sale.record(each)
        assert (record.state, record.reason) == ("DECLINED", "not_enough_left")
    told = [
        (fact.ticket_id, fact.reason, fact.quantity) for fact in await sale.relay() if isinstance(fact, TicketDeclined)
    ]
    assert told == [(big, "not_enough_left", 3), (huge, "not_enough_left", 3)]
    assert await sale.count("admitted_total") == 2


async def test_q1_a_raise_that_postgres_does_not_know_yet_may_still_bring_units(new_sale: NewSale) -> None:
    sale = await new_sale(1, per_buyer_limit=2)
    [big] = await sale.join("big", quantity=2)
    await sale.set_stock(2, version=1)
    assert await sale.admitted() == []
    assert await sale.states(big) == ["WAITING"]
    await sale.acknowledge()
    assert await sale.admitted() == [big]


async def test_q1_declines_of_one_call_are_bounded_too(new_sale: NewSale) -> None:
    sale = await new_sale(1, per_buyer_limit=2)
    ids = await sale.join("ada", "bob", "cy", quantity=2)
    assert await sale.admitted(2) == []
    assert await sale.states(*ids) == ["DECLINED", "DECLINED", "WAITING"]


async def test_q1_who_is_declined_after_a_lease_gives_up_the_claim(new_sale: NewSale) -> None:
    sale = await new_sale(2, per_buyer_limit=2)
    [big] = await sale.join("big", quantity=2)
    lease, _ = await sale.admit()
    await sale.give_back(lease, big)
    # A unit is sold behind its back, as after lost data: big can have two no longer.
    await sale.redis.hincrby(sale.keys.items, "seat:next", 1)
    await sale.admit()
    assert (await sale.states(big), await sale.item("back")) == (["DECLINED"], 0)
    await sale.redis.hincrby(sale.keys.items, "seat:next", -1)


async def test_q1_who_takes_fewer_claims_what_there_is_and_holds_up_nobody(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 4, "table": 9}, per_buyer_limit=3)
    [ada] = await sale.join("ada", quantity=2)
    [big] = await sale.join("big", quantity=3, fewer=True)
    [cy] = await sale.join("cy")
    [dee] = await sale.join("dee", sku="table")
    lease, reply = await sale.admit()
    assert reply.ids == [ada, big, dee]
    assert [each.quantity for each in reply.tickets] == [2, 2, 1]
    assert (await sale.admit(lease=lease))[1].tickets == reply.tickets, "L1"
    assert (await sale.item("claims"), (await sale.record(big)).asked) == (4, 3)
    # The units of ada come back; big has what it claimed, and the next in line has the rest.
    await sale.decline(lease, ada)
    assert await sale.admitted() == [cy]
    await sale.reserve(lease, big)
    assert ((await sale.record(big)).units, (await sale.ticket(big)).quantity) == ((1, 2), 2)


async def test_q1_who_takes_fewer_is_not_declined_for_the_last_unit_and_waits_for_it(new_sale: NewSale) -> None:
    sale = await new_sale(1, per_buyer_limit=3)
    [ada] = await sale.join("ada")
    [big] = await sale.join("big", quantity=3, fewer=True)
    lease, _ = await sale.admit()
    assert await sale.admitted() == []
    assert await sale.states(big) == ["WAITING"], "nothing to claim, but something may come back"
    await sale.decline(lease, ada)
    _, reply = await sale.admit()
    assert [(each.ticket_id, each.quantity) for each in reply.tickets] == [(big, 1)]


async def test_q1_what_was_claimed_stays_claimed_when_a_lease_ends(new_sale: NewSale) -> None:
    sale = await new_sale(2, per_buyer_limit=3)
    [big] = await sale.join("big", quantity=3, fewer=True)
    lease, _ = await sale.admit()
    await sale.give_back(lease, big)
    # The shop was asked about two; it is never asked about more, whatever has come since.
    await sale.set_stock(5, version=1)
    await sale.acknowledge()
    assert await sale.item("back") == 2
    _, reply = await sale.admit()
    assert [(each.ticket_id, each.quantity) for each in reply.tickets] == [(big, 2)]
    assert (await sale.item("back"), await sale.item("claims")) == (0, 2)


async def test_q1_a_ticket_that_comes_back_may_find_still_fewer(new_sale: NewSale) -> None:
    sale = await new_sale(2, per_buyer_limit=3)
    [big] = await sale.join("big", quantity=3, fewer=True)
    lease, _ = await sale.admit()
    await sale.give_back(lease, big)
    await sale.redis.hincrby(sale.keys.items, "seat:next", 1)  # sold behind its back, as after lost data
    _, reply = await sale.admit()
    assert [each.quantity for each in reply.tickets] == [1]
    assert (await sale.item("back"), await sale.item("claims")) == (0, 1)
    await sale.redis.hincrby(sale.keys.items, "seat:next", -1)


async def test_who_was_admitted_is_told_through_the_channel_of_the_sale(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    ids = await sale.join("ada", "bob")
    async with sale.redis.pubsub() as heard:
        await heard.subscribe(sale.keys.moved)
        assert (await heard.get_message(timeout=5))["type"] == "subscribe"
        lease, _ = await sale.admit()
        await sale.reserve(lease, ids[0])
        await sale.decline(lease, ids[1])
        await sale.confirm(ids[0])
        await sale.admit()  # moves nobody, says nothing
        told = [(await heard.get_message(timeout=5))["data"] for _ in range(4)]
        assert await heard.get_message(timeout=0) is None
    assert [msgspec.msgpack.decode(each) for each in told] == [ids, [ids[0]], [ids[1]], [ids[0]]]
