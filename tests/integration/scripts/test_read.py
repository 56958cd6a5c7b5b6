"""read.lua, look.lua, stats.lua, tally.lua: what everybody is told. They change nothing but running totals."""

from redis.asyncio import Redis

from fairline.store.replies import LookReply, LookRow
from fairline.store.room import Room
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver


async def test_read_gives_each_ticket_in_the_order_asked_for_and_nothing_for_an_unknown_one(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 2, "table": 2})
    [ada] = await sale.join("ada", sku="chair")
    [bob] = await sale.join("bob", sku="table")
    answers = await sale.room.read(sale.id, [(bob, "table"), ("nobody", "chair"), (ada, "chair")])
    assert [ticket and (ticket.buyer_id, ticket.sku) for ticket in answers] == [
        ("bob", "table"),
        None,
        ("ada", "chair"),
    ]


async def test_read_of_nothing_is_nothing(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    assert await sale.room.read(sale.id, []) == []


async def test_places_fall_as_the_line_moves_and_never_grow(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    ids = await sale.join("ada", "bob", "cy", "dee", "eve")
    seen = {each: [(await sale.ticket(each)).position] for each in ids}
    lease, reply = await sale.admit(2)

    async def look() -> None:
        for each in ids:
            seen[each].append((await sale.ticket(each)).position)

    await look()
    assert [seen[each][-1] for each in ids] == [None, None, 1, 2, 3]
    await sale.give_back(lease, *reply.ids)
    await look()
    assert [seen[each][-1] for each in ids] == [1, 1, 1, 2, 3], "who came back is next, and pushes nobody back"
    await sale.room.leave(sale.id, ids[2], "seat")
    await look()
    lease, reply = await sale.admit(2)
    await sale.decline(lease, *reply.ids)
    await look()
    for each in ids:
        told = [place for place in seen[each] if place is not None]
        assert told == sorted(told, reverse=True), each


async def test_served_is_the_last_number_given_when_nobody_waits(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    await sale.join("ada", "bob")
    await sale.admit()
    assert [row.served for row in (await sale.look()).rows] == [2]
    [cy] = await sale.join("cy")
    assert (await sale.ticket(cy)).position == 1


async def test_look_tells_state_pace_and_stock_of_each_sku(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 3, "table": 0}, rate_per_s=2.5, message="Grüezi")
    await sale.join("ada", sku="chair")
    seen = await sale.look()
    assert (seen.meta["state"], seen.meta["rate"], seen.meta["message"]) == ("open", "2.5", "Grüezi")
    chair, table = seen.rows
    assert (chair.served, chair.waiting, chair.older, chair.free, chair.outlook, chair.stock) == (
        0,
        1,
        0,
        3,
        "available",
        3,
    )
    assert (table.free, table.outlook, table.stock, table.version) == (0, "sold_out", 0, 0)
    server_s, _ = await sale.redis.time()
    assert abs(seen.now_ms - server_s * 1000) < 10_000


async def test_e1_outlook_follows_units_admissions_and_reservations(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.join("ada")
    lease, _ = await sale.admit()
    assert await sale.outlook() == "available", "admitted, but nobody holds the unit yet"
    await sale.reserve(lease, ada)
    assert await sale.outlook() == "all_reserved"
    await sale.release(ada)
    assert await sale.outlook() == "available"
    await sale.sold("bob")
    assert await sale.outlook() == "sold_out"


async def test_c1_all_counts_of_a_sale_add_up_to_joined(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 4, "table": 1}, per_buyer_limit=2)
    a, b, c, d, e, f = await sale.join("ada", "bob", "cy", "dee", "eve", "fay", sku="chair")
    lease, _ = await sale.admit(4)
    await sale.reserve(lease, a, b)
    await sale.confirm(a)
    await sale.release(b)
    await sale.decline(lease, c)
    await sale.room.leave(sale.id, e, "chair")
    stats = await sale.stats()
    counts = dict(zip(stats.counts[::2], map(int, stats.counts[1::2]), strict=True))
    states = ("WAITING", "ADMITTED", "RESERVED", "CONFIRMED", "RELEASED", "DECLINED", "LEFT")
    assert [counts[f"chair:{state}"] for state in states] == [1, 1, 0, 1, 1, 1, 1]
    assert sum(counts[f"chair:{state}"] for state in states) == counts["chair:joined"] == 6
    assert counts["chair:DECLINED:payment_declined"] == 1
    assert counts["chair:admitted_total"] == 4
    assert (stats.word, stats.state, stats.in_flight) == ("DONE", "open", 1)
    assert stats.stocks[0][:2] == (4, 3)
    assert stats.stocks[1] == (1, 1, 1, 0)
    assert stats.outbox == await sale.redis.xlen(sale.keys.outbox)
    assert await sale.states(d, f) == ["ADMITTED", "WAITING"]


async def test_tally_adds_what_a_gateway_counted_by_itself(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    for _ in range(2):
        await sale.room.tally(sale.id, {"seat:asked": 3, "seat:refused:sold_out": 2})
    await sale.room.tally(sale.id, {})
    assert [await sale.count(each) for each in ("asked", "refused:sold_out")] == [6, 4]


async def test_a_sale_that_was_lost_and_made_anew_with_other_skus_is_looked_at_by_those(redis: Redis) -> None:
    room, first = Room(redis), SaleDriver(redis, {"seat": 3})
    await first.create()
    assert [row.stock for row in rows_of(await room.look(first.id))] == [3]
    await first.remove()
    second = SaleDriver(redis, {"chair": 1, "table": 2}, sale_id=first.id)
    await second.create()
    assert [row.stock for row in rows_of(await room.look(first.id))] == [1, 2]
    assert await room.skus(first.id) == ("chair", "table")
    await second.remove()


def rows_of(look: LookReply | None) -> list[LookRow]:
    assert look is not None
    return look.rows
