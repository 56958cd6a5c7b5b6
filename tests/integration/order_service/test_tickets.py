"""The history of tickets: what has a row, which row stays, and who is told (C2)."""

from fairline.counts import MOST_REASONS, OTHER
from fairline.events import KeptTicket, TicketDeclined, TicketsArchived, TicketsKept
from order_service.handling import Done
from order_service.queries import query
from order_service.tickets import Tickets
from tests.support.orders import TOO_LONG, Desk, a_sale_id, order, record, sale

OUTCOMES = ("CONFIRMED", "DECLINED", "SOLD_OUT", "LEFT", "LAPSED", "RELEASED")


def kept(outcome: str, *, ticket_id: str = "", reason: str = "") -> KeptTicket:
    return KeptTicket(
        ticket_id=ticket_id or order("s").ticket_id,
        outcome=outcome,  # type: ignore[arg-type]  # one of OUTCOMES
        sku="seat",
        buyer_id="ann",
        quantity=2,
        arrival=2**41 + 1,
        reason=reason,
        at_ms=7_000,
    )


async def test_c2_every_ticket_of_a_batch_has_its_row_before_the_batch_is_answered(desk: Desk) -> None:
    sale_id = a_sale_id()
    batch = TicketsArchived(sale_id=sale_id, batch="b1", tickets=tuple(map(kept, OUTCOMES)))
    handler = Tickets(desk.postgres)
    told = await handler.write([record(batch)])
    assert told == [Done((TicketsKept(sale_id=sale_id, batch="b1"),))]
    rows = await desk.fetch("SELECT * FROM ticket_history WHERE sale_id = $1", sale_id)
    assert {(str(row["ticket_id"]), row["outcome"]) for row in rows} == {
        (each.ticket_id, each.outcome) for each in batch.tickets
    }
    assert {(row["quantity"], row["arrival"], row["at"].timestamp()) for row in rows} == {(2, 2**41 + 1, 7.0)}
    # Sent again, alone and twice in a transaction: answered again, and nothing changes.
    assert await handler.write([record(batch), record(batch)]) == told * 2
    assert await desk.fetch("SELECT * FROM ticket_history WHERE sale_id = $1", sale_id) == rows


async def test_v1_the_row_that_a_verdict_wrote_stays(desk: Desk) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    bought, declined = order(sale_id), order(sale_id).ticket_id
    await desk.decide(bought)
    handler = Tickets(desk.postgres)
    early = TicketDeclined(
        sale_id=sale_id, ticket_id=declined, sku="seat", buyer_id="b", quantity=1, arrival=2, reason="no", at_ms=1
    )
    batch = TicketsArchived(
        sale_id=sale_id,
        batch="b1",
        tickets=(kept("RELEASED", ticket_id=bought.ticket_id), kept("DECLINED", ticket_id=declined, reason="other")),
    )
    assert await handler.write([record(early), record(batch)]) == [
        Done(),
        Done((TicketsKept(sale_id=sale_id, batch="b1"),)),
    ]
    assert await desk.history(bought.ticket_id) == "CONFIRMED"
    assert await desk.history(declined) == "DECLINED no"


async def test_a_batch_with_an_id_that_is_none_is_a_dead_letter(desk: Desk) -> None:
    handler = Tickets(desk.postgres)
    good = TicketsArchived(sale_id="s", batch="b", tickets=(kept("LEFT"),))
    bad = TicketsArchived(sale_id="s", batch="b", tickets=(kept("LEFT"), kept("LEFT", ticket_id="none")))
    assert handler.fault(record(good)) is None
    assert "the id of its ticket is none" in str(handler.fault(record(bad)))
    assert handler.fault(record(order("s"))) == "OrderPlaced is no end of a ticket"
    assert await handler.write([record(TicketsArchived(sale_id="s", batch="empty", tickets=()))]) == [
        Done((TicketsKept(sale_id="s", batch="empty"),))
    ]


async def test_v6_an_end_that_no_index_takes_is_a_dead_letter_and_not_tried_for_ever(desk: Desk) -> None:
    batch = TicketsArchived(sale_id="s", batch="b", tickets=(kept("LEFT"), kept("DECLINED", reason=TOO_LONG)))
    assert "text too long" in str(Tickets(desk.postgres).fault(record(batch)))


async def test_statistics_tell_so_many_reasons_apart_and_the_others_as_one(desk: Desk) -> None:
    sale_id = a_sale_id()
    reasons = [*(f"no_{at}" for at in range(MOST_REASONS + 5)), "often", "often"]
    ends = tuple(kept("DECLINED", reason=reason) for reason in reasons)
    more = (kept("LAPSED", reason="no_answer"), kept("LEFT"))
    await Tickets(desk.postgres).write([record(TicketsArchived(sale_id=sale_id, batch="b1", tickets=ends + more))])
    rows = await desk.fetch(query("sale_stats"), sale_id, MOST_REASONS, OTHER)
    declined = {row["reason"]: row["tickets"] for row in rows if row["outcome"] == "DECLINED"}
    assert len(declined) == MOST_REASONS + 1
    assert (declined["often"], declined["other"], sum(declined.values())) == (2, 6, len(reasons))
    others = {(row["outcome"], row["reason"], row["tickets"]) for row in rows if row["outcome"] != "DECLINED"}
    assert others == {("LAPSED", "no_answer", 1), ("LEFT", "", 1)}
