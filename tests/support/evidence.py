"""A small sale as an outsider saw it, without a flaw; tests doctor it, one lie at a time."""

from fairline.demo.log import JOINED, Call, Held, Log, Told
from fairline.demo.verdict import Evidence
from fairline.demo.watch import Counts, RedisView, Row, Sample, Seen
from fairline.sale import Item, SaleDefinition
from fairline.states import State
from fairline.store.scripts import TicketRecord

SKU = "teapot"


def flawless(
    *, stock: int = 3, ends: str = "CCDCSS", rate_per_s: float | None = None, capacity: int | None = None
) -> Evidence:
    """``ends`` is how each ticket ends, in the order of their arrivals: C confirmed, D declined, S sold out.

    A request a tenth of a second; each is answered after 10 ms, admitted after 20 and told its end after 50.
    """
    log = Log(began_s=100.0)
    rows: list[Row] = []
    records: dict[str, TicketRecord] = {}
    moved: dict[str, int] = {}
    for arrival, letter in enumerate(ends, 1):
        sent_s = 100.0 + arrival / 10
        buyer, ticket_id = f"buyer-{arrival}", f"ticket-{arrival}"
        state = {"C": State.CONFIRMED, "D": State.DECLINED, "S": State.SOLD_OUT}[letter]
        reason = "payment_declined" if state is State.DECLINED else None
        units: tuple[int, ...] = ()
        if state is State.CONFIRMED:
            units = (len(rows) + 1,)
            rows.append(Row(SKU, units[0], buyer, ticket_id))
        told = [Told(sent_s + 0.01, "join", State.WAITING)]
        if state is not State.SOLD_OUT:
            told.append(Told(sent_s + 0.02, "socket", State.ADMITTED, None, ()))
        told += [
            Told(sent_s + 0.05, "socket", state, reason, units),
            Told(sent_s + 5.0, "status", state, reason, units),
        ]
        log.calls.append(Call(buyer, SKU, str(arrival), sent_s, sent_s + 0.01, 202, JOINED, ticket_id, 1))
        log.tickets[ticket_id] = Held(
            ticket_id=ticket_id,
            sku=SKU,
            buyer_id=buyer,
            arrival=arrival,
            token="token",
            status_url="",
            ws_url="",
            sent_s=sent_s,
            answered_s=sent_s + 0.01,
            number=arrival,
            told=told,
        )
        records[ticket_id] = record(state, buyer=buyer, arrival=arrival, units=units)
        moved[ticket_id] = len(moved)
    counts = counted(records)
    return Evidence(
        sale=SaleDefinition(
            sale_id="sale",
            name="Sale",
            items=(Item(sku=SKU, name=SKU, stock=stock),),
            rate_per_s=rate_per_s,
            capacity=capacity,
        ),
        log=log,
        seen=Seen(samples=[Sample(101.0, 0, counts)], moved=moved, listened=True, rows=len(rows), last_row_s=101.0),
        redis=RedisView(counts=counts, tickets=records, left={SKU: stock - len(rows)}, most_slots=1, outbox=0),
        rows=rows,
        opened_s=100.0,
    )


def record(
    state: State, *, buyer: str = "somebody", arrival: int = 99, units: tuple[int, ...] = (), sku: str = SKU
) -> TicketRecord:
    """A ticket as Redis keeps it."""
    return TicketRecord(
        state=state,
        sku=sku,
        buyer=buyer,
        quantity=1,
        arrival=arrival,
        number=arrival,
        lease="",
        tries=0,
        back=0,
        units=units,
        slots=(),
        reason="",
        joined_ms=0,
        changed_ms=0,
        sends=0,
    )


def counted(records: dict[str, TicketRecord]) -> dict[str, Counts]:
    """The counts that go with these records."""
    states = {str(state): sum(each.state == state for each in records.values()) for state in State}
    return {SKU: Counts(joined=len(records), states=states)}
