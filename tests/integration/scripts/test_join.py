"""join.lua: places in line, repeats, refusals (R1, R2)."""

import msgspec
from redis.asyncio import Redis

from fairline.events import TicketDeclined
from fairline.store.keys import SaleKeys
from fairline.store.tickets import Join
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver


async def test_r1_arrivals_count_from_one_over_all_skus_and_numbers_count_in_each_line(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 1, "table": 1})
    answers = await sale.room.join(
        sale.id,
        [Join("a", "chair", "ada", 1), Join("b", "table", "bob", 1), Join("c", "chair", "cy", 1)],
        max_waiting=10,
    )
    tickets = [ticket for _, ticket in answers if ticket]
    assert [(ticket.arrival, ticket.number, ticket.position) for ticket in tickets] == [(1, 1, 1), (2, 1, 1), (3, 2, 2)]
    assert [ticket.state for ticket in tickets] == ["WAITING"] * 3


async def test_r1_a_new_epoch_sorts_after_all_older_ones_and_ranks_those(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    old = await sale.join("ada", "bob")
    for n, epoch in ((3, 1), (4, 91), (5, 8191)):  # from 91 on the border has more digits than Lua's number format
        await sale.redis.hset(sale.keys.meta, "epoch", epoch)
        [new] = await sale.join(f"cy-{epoch}")
        ticket = await sale.ticket(new)
        assert (ticket.epoch, ticket.arrival) == (epoch, epoch * 2**40 + n)
        assert (await sale.line())[-1] == new
        assert (await sale.look()).rows[0].older == n - 1
        word, again = await sale.ask("ada")
        assert (word, again and again.position) == ("LIVE", 1), "a ticket of an older epoch is told its rank"
    assert [(await sale.ticket(each)).position for each in old] == [1, 2]


async def test_r2_the_same_request_finds_its_ticket_also_when_it_is_terminal(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    first, ticket = await sale.ask("ada", key="k1")
    again, same = await sale.ask("ada", key="k1")
    assert (first, again) == ("JOINED", "SAME")
    assert ticket is not None
    assert same == ticket
    await sale.room.leave(sale.id, ticket.ticket_id, "seat")
    word, left = await sale.ask("ada", key="k1")
    assert (word, left and left.state) == ("SAME", "LEFT")
    assert await sale.count("joined") == 1


async def test_r2_the_same_request_finds_its_ticket_after_the_sale_has_ended(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.ask("ada", key="k1")
    await sale.change("end")
    assert (await sale.ask("ada", key="k1"))[0] == "SAME"
    assert (await sale.ask("ada", key="k2"))[0] == "LIVE", "and its live ticket by another key"
    assert (await sale.ask("bob"))[0] == "SALE_CLOSED"


async def test_r2_a_key_with_another_quantity_is_refused_and_changes_nothing(new_sale: NewSale) -> None:
    sale = await new_sale(5, per_buyer_limit=3)
    await sale.ask("ada", key="k1", quantity=2)
    assert await sale.ask("ada", key="k1", quantity=3) == ("KEY_REUSED", None)
    assert (await sale.ask("ada", key="k1", quantity=2))[0] == "SAME"
    assert await sale.count("refused:key_reused") == 1


async def test_r2_whether_fewer_will_do_belongs_to_the_request_and_so_does_what_was_asked_for(
    new_sale: NewSale,
) -> None:
    sale = await new_sale(2, per_buyer_limit=3)
    await sale.ask("ada", key="k1", quantity=3, fewer=True)
    await sale.admit()
    word, ticket = await sale.ask("ada", key="k1", quantity=3, fewer=True)
    assert (word, ticket and ticket.quantity) == ("SAME", 2), "asked for three, admitted with two"
    for quantity, fewer in ((3, False), (2, True), (2, False)):
        assert await sale.ask("ada", key="k1", quantity=quantity, fewer=fewer) == ("KEY_REUSED", None)
    await sale.ask("bob", key="k1", quantity=1)
    assert (await sale.ask("bob", key="k1", quantity=1, fewer=True))[0] == "KEY_REUSED"


async def test_r2_a_ticket_of_fewer_units_that_was_read_back_from_postgres_is_found_by_its_request(
    new_sale: NewSale,
) -> None:
    sale = await new_sale(2, per_buyer_limit=3)
    _, asked = await sale.ask("ada", key="k1", quantity=3, fewer=True)
    assert asked is not None
    lease, _ = await sale.admit()
    await sale.reserve(lease, asked.ticket_id)
    await sale.confirm(asked.ticket_id)
    # As ``rebuild`` has it where Redis had lost it: an order says how many were bought, not how many were asked for.
    record = msgspec.structs.replace(await sale.record(asked.ticket_id), asked=0, tries=0)
    await sale.raw.hset(sale.keys.tickets, asked.ticket_id, msgspec.msgpack.encode(record))
    word, ticket = await sale.ask("ada", key="k1", quantity=3, fewer=True)
    assert (word, ticket and (ticket.state, ticket.quantity)) == ("SAME", ("CONFIRMED", 2))
    for quantity, fewer in ((3, False), (1, True)):
        assert (await sale.ask("ada", key="k1", quantity=quantity, fewer=fewer))[0] == "KEY_REUSED"


async def test_who_takes_fewer_may_still_not_ask_for_more_than_a_buyer_may_have(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=2)
    assert (await sale.ask("ada", quantity=3, fewer=True))[0] == "OVER_LIMIT"


async def test_r2_another_key_or_none_brings_the_live_ticket_of_the_buyer(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 3, "table": 1}, per_buyer_limit=2)
    _, ticket = await sale.ask("ada", key="k1")
    assert await sale.ask("ada", key="k2") == ("LIVE", ticket)
    assert await sale.ask("ada", quantity=2) == ("LIVE", ticket)
    assert (await sale.ask("ada", sku="table"))[0] == "JOINED", "one live ticket for each sku"
    lease, _ = await sale.admit()
    assert ticket is not None
    for state in ("ADMITTED", "RESERVED"):
        word, live = await sale.ask("ada")
        assert (word, live and live.state, live and live.position) == ("LIVE", state, None)
        await sale.reserve(lease, ticket.ticket_id)


async def test_r2_two_joins_of_a_buyer_in_one_call_make_one_ticket(new_sale: NewSale) -> None:
    sale = await new_sale(3)
    answers = await sale.room.join(
        sale.id, [Join("a", "seat", "ada", 1), Join("b", "seat", "ada", 1), Join("a", "seat", "ada", 1)], max_waiting=10
    )
    assert [word for word, _ in answers] == ["JOINED", "LIVE", "SAME"]
    assert {ticket and ticket.ticket_id for _, ticket in answers} == {"a"}


async def test_after_leaving_a_new_join_gives_a_new_ticket_at_the_back(new_sale: NewSale) -> None:
    sale = await new_sale(3)
    ada, bob = await sale.join("ada", "bob")
    await sale.room.leave(sale.id, ada, "seat")
    [later] = await sale.join("ada")
    assert await sale.line() == [bob, later]
    assert (await sale.ticket(later)).position == 2


async def test_a_sale_that_has_not_opened_says_so(redis: Redis) -> None:
    sale = SaleDriver(redis, {"seat": 0})
    await sale.create()
    assert await sale.ask("ada") == ("NOT_OPEN", None)
    await sale.remove()


async def test_a_paused_sale_takes_joins(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.change("pause")
    assert (await sale.ask("ada"))[0] == "JOINED"


async def test_an_ended_and_a_closed_sale_refuse_joins(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.change("end")
    assert await sale.ask("ada") == ("SALE_CLOSED", None)
    await sale.acknowledge()
    await sale.relay()
    assert await sale.closed() == "CLOSED"
    assert await sale.ask("ada") == ("SALE_CLOSED", None)
    assert await sale.count("refused:sale_closed") == 2


async def test_e2_sold_out_is_told_only_when_nothing_can_come_back(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.join("ada")
    assert (await sale.ask("bob"))[0] == "JOINED"
    lease, _ = await sale.admit()
    assert (await sale.ask("cy"))[0] == "JOINED"
    await sale.reserve(lease, ada)
    assert (await sale.ask("dee"))[0] == "JOINED"
    await sale.confirm(ada)
    assert await sale.ask("eve") == ("SOLD_OUT", None)
    assert await sale.ask("ada") == ("ALREADY_BOUGHT", None), "who has it is told that first"


async def test_e2_a_line_that_is_kept_takes_joins_when_all_is_sold(new_sale: NewSale) -> None:
    sale = await new_sale(0, when_sold_out="keep_line")
    assert (await sale.ask("ada"))[0] == "JOINED"
    assert await sale.outlook() == "sold_out"


async def test_e2_one_sku_may_be_sold_out_while_another_is_not(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 0, "table": 1})
    answers = await sale.room.join(sale.id, [Join("a", "chair", "ada", 1), Join("b", "table", "ada", 1)], max_waiting=9)
    assert [word for word, _ in answers] == ["SOLD_OUT", "JOINED"]


async def test_u3_a_raise_that_postgres_does_not_know_yet_keeps_the_line_open(new_sale: NewSale) -> None:
    sale = await new_sale(0)
    assert (await sale.ask("ada"))[0] == "SOLD_OUT"
    await sale.set_stock(1, version=1)
    assert await sale.outlook() == "all_reserved"
    assert (await sale.ask("ada"))[0] == "JOINED"


async def test_the_limit_counts_what_the_buyer_holds_and_asks(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 9, "table": 9}, per_buyer_limit=3)
    await sale.sold("ada", quantity=2)
    assert await sale.ask("ada", quantity=2) == ("OVER_LIMIT", None)
    assert (await sale.ask("ada", sku="table", quantity=3))[0] == "JOINED", "the limit is for each sku"
    assert (await sale.ask("ada", quantity=1))[0] == "JOINED"


async def test_who_holds_the_limit_has_bought_already(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=2)
    await sale.sold("ada", quantity=2)
    assert await sale.ask("ada", quantity=1) == ("ALREADY_BOUGHT", None)


async def test_more_than_the_limit_at_once_is_over_it(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=2)
    assert await sale.ask("ada", quantity=3) == ("OVER_LIMIT", None)
    assert (await sale.ask("ada", quantity=2))[0] == "JOINED"


async def test_a_full_sale_refuses_also_in_the_middle_of_a_batch_and_whatever_the_sku(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 9, "table": 9})
    answers = await sale.room.join(
        sale.id,
        [
            Join("a", "chair", "ada", 1),
            Join("b", "chair", "bob", 1),
            Join("c", "chair", "cy", 1),
            Join("d", "table", "cy", 1),
        ],
        max_waiting=2,
    )
    assert [word for word, _ in answers] == ["JOINED", "JOINED", "LINE_FULL", "LINE_FULL"]
    assert (await sale.ask("cy", max_waiting=2))[0] == "LINE_FULL"
    assert (await sale.ask("dee", sku="table", max_waiting=2))[0] == "LINE_FULL", "whose own line is empty"
    assert (await sale.ask("ada", max_waiting=2))[0] == "LIVE", "who has a place keeps it"
    await sale.admit(1)
    assert (await sale.ask("cy", max_waiting=2))[0] == "JOINED", "the bound is on those who wait"


async def test_asked_and_refused_are_counted(new_sale: NewSale) -> None:
    sale = await new_sale(5, per_buyer_limit=1)
    await sale.ask("ada", key="k")
    await sale.ask("ada", key="k")
    await sale.ask("ada")
    await sale.ask("bob", quantity=2)
    assert [await sale.count(each) for each in ("asked", "joined", "refused:over_limit")] == [4, 1, 1]


async def test_ids_of_every_script_and_length_keep_their_spelling(new_sale: NewSale) -> None:
    sale = await new_sale({"A.b_c-1": 9})
    buyers = ["seat:ada", "a:b:c", "Zoë", "買い手", "🎟️" * 60, "x" * 128, "%s %d {} \\ \" '"]
    ids = await sale.join(*buyers)
    assert [(await sale.record(each)).buyer for each in ids] == buyers
    assert [ticket.buyer_id for ticket in [await sale.ticket(each) for each in ids]] == buyers
    lease, reply = await sale.admit()
    assert [each.buyer_id for each in reply.tickets] == buyers
    assert await sale.decline(lease, *reply.ids, reason="Ungültig 🙁") == ["DECLINED"] * len(buyers)
    facts = [fact for fact in await sale.relay() if isinstance(fact, TicketDeclined)]
    assert [(fact.buyer_id, fact.reason) for fact in facts] == [(buyer, "Ungültig 🙁") for buyer in buyers]


async def test_a_batch_of_ten_thousand_is_taken_in_order(new_sale: NewSale) -> None:
    sale = await new_sale(10_000)
    ids = await sale.join(*(f"buyer-{n}" for n in range(10_000)))
    assert await sale.line() == ids
    lease, reply = await sale.admit(10_000)
    assert reply.ids == ids
    words = await sale.reserve(lease, *ids)
    assert words == ["RESERVED"] * 10_000
    assert (await sale.confirm(*ids[:5000])).count == 5_000
    assert (await sale.release(*ids[5000:])).count == 5_000
    assert await sale.redis.zcard(SaleKeys(sale.id, ("seat",)).returned[0]) == 5_000


async def test_a_call_about_nothing_answers_nothing(new_sale: NewSale) -> None:
    sale = await new_sale(0)
    assert await sale.room.join(sale.id, [], max_waiting=1) == []
    assert await sale.reserve("a-lease") == []
    assert await sale.decline("a-lease") == []
    assert await sale.give_back("a-lease") == []
    assert (await sale.stock.settle([])).count == 0
    assert (await sale.admitted(), await sale.reap(), await sale.redrive(), await sale.sweep()) == (
        [],
        (0, 0),
        (0, 0),
        0,
    )
