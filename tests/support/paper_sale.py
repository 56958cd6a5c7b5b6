"""A lawful sale on paper: the history of its buyers and the final contents, made move by move without any server.

Each call is one step of a tenth of a second. Nothing is enforced: a cheat is a move that should not be, or an edit of
what came out: ``tickets``, ``items``, ``rows`` and the like are what the three servers will be said to hold.

    sale = PaperSale(stock=1)
    anna = sale.join("anna")
    sale.buy(anna)
    sale.rest()
    assert set(sale.verdicts().values()) == {"ok"}
"""

from collections import Counter
from typing import Any, Final

import msgspec

from fairline.events import OrderConfirmed, OrderFailed, OrderPlaced
from fairline.frames import Place, ProgressFrame, TicketFrame
from fairline.ids import ticket_id_for
from fairline.states import State
from loadtest.checker import check
from loadtest.finals import Finals, Item, KafkaSide, Letter, PostgresSide, RedisSide, Row, Ticket, Unit
from loadtest.history import (
    Act,
    Answered,
    AnyRecord,
    Began,
    Fault,
    Heard,
    History,
    LostWrites,
    Moved,
    Opening,
    Rest,
    Sample,
    Sent,
    Unknown,
    gather,
    order,
)
from loadtest.report import Finding

SALE: Final = "spring"
SEAT: Final = "seat"
STEP_S: Final = 0.1
LATE_S: Final = 0.01  # what an answer or a frame takes


class PaperSale:
    """Open from the start, one sku. ``now`` is the clock of everybody; Redis's time of day is the same in ms."""

    def __init__(
        self, *, stock: int = 3, limit: int = 1, rate: float | None = None, capacity: int | None = None
    ) -> None:
        self.now = 100.0
        self.records: list[AnyRecord] = [Began(at_s=1.0, sale_id=SALE, wall_ms=1000)]
        self.tickets: dict[str, Ticket] = {}
        self.aliases: dict[str, str] = {}
        self.stock = self.high = stock
        self.free = list(range(1, stock + 1))
        self.limit, self.rate, self.capacity = limit, rate, capacity
        self.state, self.epoch, self.outbox = "open", 0, 0
        self.arrivals, self.admissions = 0, 0
        self.orders: list[OrderPlaced] = []
        self.results: list[OrderConfirmed | OrderFailed] = []
        self.dead: list[Letter] = []
        self.rows: dict[str, Row] = {}
        self.units: list[Unit] = []
        self.outcomes: dict[str, str] = {}
        self.counted: Counter[str] | None = None  # where a cheat says otherwise
        self.line: list[str] | None = None
        self._number, self._sockets = 0, dict[str, int]()
        body = {"sale_id": SALE, "items": [{"sku": SEAT, "stock": stock}], "per_buyer_limit": limit}
        self.act("create", body=body | {"rate_per_s": rate, "capacity": capacity})
        self.act("open")

    # What operators do, and what is broken

    def act(self, what: Act, *, lost: bool = False, **sent: Any) -> None:
        """An operator's call; its answer may be lost."""
        call = self._sent(what, **sent)
        if not lost:
            self._later(Answered(at_s=self.now + LATE_S, call=call, status=200))

    def restock(self, stock: int) -> None:
        """More units."""
        self.act("stock", sku=SEAT, body={"stock": stock, "version": 1})
        self.free += range(self.high + 1, stock + 1)
        self.stock = self.high = stock

    def fault(self, what: str = "kill", target: str = "redis", lost: LostWrites = "none") -> None:
        """Something is broken."""
        self._later(Fault(at_s=self.step(), fault=self._next(), what=what, target=target, lost=lost))

    def rest(self) -> None:
        """The end was waited for, and everybody asked once more."""
        self._later(Rest(at_s=self.step(), rested=True))
        for ticket_id in self.tickets:
            self.status(ticket_id)

    # What buyers do

    def join(self, buyer: str, *, key: str = "", quantity: int = 1, lost: bool = False, listen: bool = True) -> str:
        """A new ticket; the same again for the same key. ``lost``: the answer never came."""
        key = key or f"k-{buyer}"
        call = self._sent("join", buyer_id=buyer, sku=SEAT, key=key, quantity=quantity)
        ticket_id = ticket_id_for(SALE, SEAT, buyer, key)
        live = [name for name, each in self.tickets.items() if each.buyer_id == buyer and not _over(each.state)]
        token = not live or live == [ticket_id]
        ticket_id = ticket_id if token else live[0]
        if ticket_id not in self.tickets:
            self.arrivals += 1
            self.tickets[ticket_id] = Ticket(
                state=State.WAITING,
                sku=SEAT,
                buyer_id=buyer,
                quantity=quantity,
                arrival=self.epoch * 2**40 + self.arrivals,
                number=self.arrivals,
                joined_ms=self._ms(),
                changed_ms=self._ms(),
            )
        self._answer(call, ticket_id, token=token, lost=lost, status=202 if token else 200)
        if listen and not lost and token:
            self.listen(ticket_id)
        return ticket_id

    def refused(self, buyer: str, code: str) -> None:
        """A join that made nothing."""
        call = self._sent("join", buyer_id=buyer, sku=SEAT, key=f"k-{buyer}")
        self._later(Answered(at_s=self.now + LATE_S, call=call, status=409, code=code))

    def status(self, ticket_id: str, *, took_s: float = LATE_S, answers: str = "") -> None:
        """Ask; the answer is what stands now, of this ticket or of the one that answers for it."""
        call = self._sent("status", ticket_id=ticket_id)
        self._answer(call, answers or ticket_id, took_s=took_s)

    def leave_too_late(self, ticket_id: str) -> None:
        """Want to leave when it is over; the refusal names the state alone."""
        call = self._sent("leave", ticket_id=ticket_id)
        state = self.tickets[ticket_id].state
        self._later(Answered(at_s=self.step(), call=call, status=409, code="not_waiting", state=state))

    def listen(self, ticket_id: str) -> None:
        """Open a socket; it says at once what stands."""
        self._sockets[ticket_id] = socket = self._next()
        self._later(Opening(at_s=self.step(), socket=socket, ticket_id=ticket_id))
        self.tell(ticket_id)

    def tell(self, ticket_id: str, **changes: Any) -> None:
        """A ticket frame of what stands, or of what a cheat makes of it."""
        ticket = self.tickets[ticket_id]
        frame = TicketFrame(
            sale_id=SALE,
            ticket_id=ticket_id,
            sku=SEAT,
            state=ticket.state,
            reason=ticket.reason or None,
            quantity=ticket.quantity,
            arrival=ticket.arrival,
            number=ticket.number,
            epoch=self.epoch,
            units=ticket.units,
            final=_over(ticket.state),
        )
        self._hear(ticket_id, msgspec.structs.replace(frame, **changes))

    def progress(self, ticket_id: str, *, served: int, older: int = 0) -> None:
        """How far the line has come, as one socket hears it."""
        place = Place(served=served, waiting=1, older=older, outlook="available")
        frame = ProgressFrame(
            sale_id=SALE,
            state="open",
            message=None,
            rate=None,
            epoch=self.epoch,
            tail=self.arrivals,
            items={SEAT: place},
            server_time="2030-01-01T00:00:00Z",
        )
        self.step()
        self._hear(ticket_id, frame)

    # What becomes of a ticket

    def admit(self, *ticket_ids: str) -> None:
        """All at one instant."""
        self.step()
        self.admissions += len(ticket_ids)
        for ticket_id in ticket_ids:
            self._move(ticket_id, State.ADMITTED, tries=self.tickets[ticket_id].tries + 1)

    def requeue(self, ticket_id: str) -> None:
        """Its lease ended."""
        self.step()
        self._move(ticket_id, State.WAITING, back=True)

    def reserve(self, ticket_id: str) -> None:
        """Its units and slots are taken, its order is on Kafka."""
        self.step()
        ticket = self.tickets[ticket_id]
        units = tuple(sorted(self.free)[: ticket.quantity])
        self.free = [unit for unit in self.free if unit not in units]
        used = {slot for each in self.tickets.values() if each.buyer_id == ticket.buyer_id for slot in each.slots}
        slots = tuple(slot for slot in range(1, self.limit + 1) if slot not in used)[: ticket.quantity]
        self._move(ticket_id, State.RESERVED, units=units, slots=slots)
        self.send(ticket_id)

    def send(self, ticket_id: str) -> None:
        """The order goes to Kafka, for the first time or again."""
        ticket = self.tickets[ticket_id]
        self.orders.append(
            OrderPlaced(
                sale_id=SALE,
                ticket_id=ticket_id,
                sku=SEAT,
                buyer_id=ticket.buyer_id,
                units=ticket.units,
                slots=ticket.slots,
                epoch=self.epoch,
                arrival=ticket.arrival,
                number=ticket.number,
                reserved_at_ms=ticket.changed_ms,
            )
        )

    def confirm(self, ticket_id: str) -> None:
        """Postgres has it, everybody is told."""
        ticket = self.tickets[ticket_id]
        self.write(ticket_id, "confirmed")
        for unit, slot in zip(ticket.units, ticket.slots, strict=True):
            self.units.append(Unit(sku=SEAT, unit=unit, buyer_id=ticket.buyer_id, ticket_id=ticket_id, slot=slot))
        self._move(ticket_id, State.CONFIRMED)

    def release(self, ticket_id: str) -> None:
        """Postgres could not write it; the unit is free again."""
        self.write(ticket_id, "failed", reason="not_writable")
        self.free += self.tickets[ticket_id].units
        self._move(ticket_id, State.RELEASED, units=(), slots=(), reason="not_writable")

    def write(self, ticket_id: str, verdict: str, **reason: Any) -> None:
        """A verdict in Postgres, and on Kafka."""
        self.step()
        ticket = self.tickets[ticket_id]
        self.rows[ticket_id] = Row(
            sku=SEAT, buyer_id=ticket.buyer_id, verdict=verdict, units=ticket.units, epoch=self.epoch, **reason
        )
        self.outcomes[ticket_id] = State.CONFIRMED if verdict == "confirmed" else State.RELEASED
        self.publish(ticket_id)

    def publish(self, ticket_id: str) -> None:
        """The verdict goes to Kafka, for the first time or again."""
        row, ticket = self.rows[ticket_id], self.tickets[ticket_id]
        said: dict[str, Any] = {
            "sale_id": SALE,
            "ticket_id": ticket_id,
            "sku": SEAT,
            "buyer_id": ticket.buyer_id,
            "units": row.units,
            "slots": ticket.slots,
            "decided_at_ms": self._ms(),
        }
        if row.verdict == "confirmed":
            self.results.append(OrderConfirmed(**said))
        else:
            self.results.append(OrderFailed(**said, reason="not_writable"))

    def end(self, ticket_id: str, state: State, reason: str = "") -> None:
        """Any other end."""
        self.step()
        self._move(ticket_id, state, reason=reason)

    def buy(self, *ticket_ids: str) -> None:
        """The whole way, one after the other."""
        for ticket_id in ticket_ids:
            self.admit(ticket_id)
            self.reserve(ticket_id)
            self.confirm(ticket_id)

    # What a bystander sees

    def sample(self) -> None:
        """The counts, at this instant."""
        counts = dict(self._counts()) | {"admitted_total": self.admissions}
        leases = sum(each.state == State.ADMITTED for each in self.tickets.values())
        self._later(Sample(asked_s=self.now, at_s=self.now + LATE_S, in_flight=leases, counts={SEAT: counts}))
        self.step()

    def step(self, by_s: float = STEP_S) -> float:
        """Time goes on."""
        self.now += by_s
        return self.now

    # What comes of it

    def edit(self, ticket_id: str, **changes: Any) -> None:
        """A cheat in a Redis record."""
        self.tickets[ticket_id] = msgspec.structs.replace(self.tickets[ticket_id], **changes)

    def finals(self) -> Finals:
        """The contents of the three servers."""
        of = self.tickets.items()
        held: dict[str, list[int]] = {}
        for _, ticket in of:
            if ticket.slots:
                held.setdefault(f"{SEAT}:{ticket.buyer_id}", []).extend(ticket.slots)
        waiting = [name for name, ticket in of if ticket.state == State.WAITING]
        item = Item(
            stock=self.stock,
            high=self.high,
            target=self.high,
            first_fresh=self.high + 1,
            returned=tuple(sorted(self.free)),
            counts=dict(self._counts() if self.counted is None else self.counted),
            line=tuple(waiting if self.line is None else self.line),
        )
        return Finals(
            sale_id=SALE,
            redis=RedisSide(
                state=self.state,
                epoch=self.epoch,
                per_buyer_limit=self.limit,
                rate_per_s=self.rate,
                capacity=self.capacity,
                items={SEAT: item},
                tickets=self.tickets,
                aliases=self.aliases,
                held={who: tuple(slots) for who, slots in held.items()},
                leases=tuple(name for name, ticket in of if ticket.state == State.ADMITTED),
                reserved=tuple(name for name, ticket in of if ticket.state == State.RESERVED),
                outbox=self.outbox,
            ),
            kafka=KafkaSide(orders=tuple(self.orders), results=tuple(self.results), dead=tuple(self.dead)),
            postgres=PostgresSide(
                epoch=self.epoch,
                stock={SEAT: self.stock},
                high={SEAT: self.high},
                orders=self.rows,
                units=tuple(self.units),
                history=self.outcomes,
            ),
        )

    def history(self) -> History:
        """What the buyers recorded."""
        history = History()
        gather(self.records, history)
        order(history)
        return history

    def findings(self) -> list[Finding]:
        """The checker's, through JSON, as an evidence folder keeps the contents."""
        return check(self.history(), msgspec.json.decode(msgspec.json.encode(self.finals()), type=Finals))

    def verdicts(self) -> dict[int, str]:
        """Invariant -> verdict."""
        return {finding.number: finding.verdict for finding in self.findings()}

    def _move(self, ticket_id: str, state: State, **changes: Any) -> None:
        self.edit(ticket_id, state=state, changed_ms=self._ms(), **changes)
        self._later(Moved(at_s=self.now, ticket_ids=(ticket_id,)))
        if ticket_id in self._sockets:
            self.tell(ticket_id)

    def _counts(self) -> Counter[str]:
        counts = Counter(str(each.state) for each in self.tickets.values())
        counts["joined"] = len(self.tickets)
        return counts

    def _answer(
        self,
        call: int,
        ticket_id: str,
        *,
        token: bool = False,
        lost: bool = False,
        status: int = 200,
        took_s: float = LATE_S,
    ) -> None:
        ticket = self.tickets[ticket_id]
        if lost:
            self._later(Unknown(at_s=self.now + 1, call=call, why="TimeoutError"))
            return
        self._later(
            Answered(
                at_s=self.now + took_s,
                call=call,
                status=status,
                ticket_id=ticket_id,
                arrival=ticket.arrival,
                number=ticket.number,
                state=ticket.state,
                reason=ticket.reason or None,
                units=ticket.units,
                token=token,
            )
        )

    def _hear(self, ticket_id: str, frame: TicketFrame | ProgressFrame) -> None:
        raw = msgspec.Raw(msgspec.json.encode(frame))
        self._later(Heard(at_s=self.now + LATE_S, socket=self._sockets[ticket_id], frame=raw))

    def _sent(self, what: Any, **about: Any) -> int:
        self._later(Sent(at_s=self.step(), call=self._next(), what=what, **about))
        return self._number

    def _later(self, record: AnyRecord) -> None:
        self.records.append(record)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _ms(self) -> int:
        return round(self.now * 1000)


def _over(state: str) -> bool:
    return state not in {State.WAITING, State.ADMITTED, State.RESERVED}


def caught(sale: PaperSale, number: int, *tickets: str) -> str:
    """The evidence against this invariant; fails where the checker lets it pass or does not name these tickets."""
    finding = sale.findings()[number - 1]
    assert finding.verdict == "violated", str(finding)
    assert set(tickets) <= set(finding.tickets), str(finding)
    return finding.evidence


def lawful(sale: PaperSale) -> None:
    """Fails where the checker finds anything."""
    broken = [str(finding) for finding in sale.findings() if finding.verdict != "ok"]
    assert not broken, "\n".join(broken)
