"""What reconcile compares and finds: two accounts of one sale, Redis's and Postgres's, by identities written down.

Pure. Units are named by sku and serial, slots by sku, buyer and number, tickets and orders by the ticket's id.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from admission.records import Ended
from fairline.states import LIVE, State
from fairline.store.scripts import TicketRecord

_ENDS_AS_A_ROW: Final = {State.CONFIRMED, State.RELEASED, State.DECLINED, State.LAPSED}


class Kind(NamedTuple):
    """A kind of difference: how it may have come, and what there is to do. ``safe``: ``--repair`` does it."""

    cause: str
    remedy: str
    safe: bool = False


KINDS: Final[Mapping[str, Kind]] = {
    "verdict_unsettled": Kind(
        "the result was lost on its way or nobody reads results", "the verdict is carried out in Redis", safe=True
    ),
    "order_unsent": Kind("a ticket left the list of those to send again", "its order is sent again", safe=True),
    "unit_lost": Kind("a unit came back and was not put into stock", "it is put back into stock", safe=True),
    "unit_free": Kind("a unit came back that Postgres had sold", "it is taken out of stock", safe=True),
    "slot_lost": Kind("a buyer's slot was not freed with its order", "it is freed", safe=True),
    "slot_free": Kind("a sold slot was freed", "it is taken again", safe=True),
    "unit_twice": Kind("Redis lost data and went on", "nobody can know whose it is but Postgres: recover the sale"),
    "ticket_unknown": Kind("Redis lost the ticket", "recover the sale"),
    "outcome_differs": Kind("Redis lost data and went on", "the row stands; recover the sale"),
    "row_missing": Kind("Postgres lost a commit, or was restored from a backup", "look for it on the results topic"),
    "history_missing": Kind("a fact was given up as a dead letter, or Kafka lost it", "statistics alone lack it"),
    "stock_differs": Kind("a change of stock was applied by one side alone", "set the stock again"),
    "count_differs": Kind("a script counted wrongly", "statistics alone are wrong; recover the sale to count anew"),
    "order_lost": Kind("Kafka lost the order", "nothing: it is sent again by itself"),
}


class Difference(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing that is not the same on both sides. ``subject``: a ticket, a serial, a buyer, or a count's name."""

    kind: str
    sku: str
    subject: str
    number: int = 0  # the slot, where the subject is a buyer
    redis: str
    postgres: str

    @property
    def who(self) -> tuple[str, str, str, int]:
        """What it is about; two looks that find the same have found a difference, not a change under way."""
        return self.kind, self.sku, self.subject, self.number


@dataclass
class Account:
    """A sale in Redis: read in pieces while it goes on, so only what two accounts both show is so."""

    next_serial: dict[str, int]
    high: dict[str, int] = field(default_factory=dict)
    returned: dict[str, set[int]] = field(default_factory=dict)
    withdrawn: dict[str, set[int]] = field(default_factory=dict)
    held: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    tickets: dict[str, TicketRecord] = field(default_factory=dict)  # those that hold something or end as a row
    others: dict[str, str | None] = field(default_factory=dict)  # states of those that Postgres alone says ended
    to_send_again: set[str] = field(default_factory=set)
    settled: bool = False  # whether Postgres has every change of the sale, so that stocks may be compared

    def take(self, ticket_id: str, record: TicketRecord) -> None:
        """Keep a ticket, if anything may be compared of it."""
        if record.state == State.RESERVED or record.state in _ENDS_AS_A_ROW:
            self.tickets[ticket_id] = record


@dataclass
class Ledger:
    """The same sale in Postgres; ``high`` is by sku."""

    rows: dict[str, Ended]
    high: dict[str, int]


def differences(account: Account, ledger: Ledger) -> set[Difference]:
    """All that is not the same."""
    found: set[Difference] = set()
    for each in (_tickets, _others, _units, _slots, _stocks):
        found.update(each(account, ledger))
    return found


def without_verdict(account: Account, ledger: Ledger, elsewhere: Container[str]) -> Iterator[Difference]:
    """Orders of RESERVED tickets that neither Postgres has nor whoever may bring them there."""
    for ticket_id, record in account.tickets.items():
        if record.state == State.RESERVED and ticket_id not in ledger.rows and ticket_id not in elsewhere:
            yield Difference(
                kind="order_lost",
                sku=record.sku,
                subject=ticket_id,
                redis=record.state,
                postgres="no row, nor on Kafka",
            )


def refuted(faults: Iterable[Difference], ledger: Ledger) -> set[Difference]:
    """Those of the faults that Postgres, asked after Redis, explains: a unit or slot of nobody was just sold."""
    units = {(row.sku, str(unit)) for row in ledger.rows.values() if row.sold for unit in row.sold.units}
    slots = {(row.sku, row.buyer_id, slot) for row in ledger.rows.values() if row.sold for slot in row.sold.slots}
    return {
        each
        for each in faults
        if (each.kind == "unit_lost" and (each.sku, each.subject) in units)
        or (each.kind == "slot_lost" and (each.sku, each.subject, each.number) in slots)
    }


def unbalanced(
    counts: Mapping[str, int], *, tickets: int, live: int, leases: int, reserved: int, waiting: Mapping[str, int]
) -> Iterator[Difference]:
    """Counts of one instant of Redis that contradict each other (C1)."""
    states: Counter[str] = Counter()
    for name, number in counts.items():
        _, _, state = name.partition(":")
        if state in set(State):
            states[state] += number
    expected = {
        "tickets": (tickets, states.total()),
        "live": (live, sum(states[state] for state in LIVE)),
        "leases": (leases, states["ADMITTED"]),
        # One that is missing there is found by its name.
        "reserved": (max(reserved, states["RESERVED"]), states["RESERVED"]),
    }
    for name, (members, counted) in expected.items():
        if members != counted:
            yield Difference(
                kind="count_differs", sku="", subject=name, redis=f"{members}, counted {counted}", postgres=""
            )
    for sku, members in waiting.items():
        counted = counts.get(f"{sku}:WAITING", 0)
        if members != counted:
            yield Difference(
                kind="count_differs", sku=sku, subject="line", redis=f"{members}, counted {counted}", postgres=""
            )


def _tickets(account: Account, ledger: Ledger) -> Iterator[Difference]:
    for ticket_id, record in account.tickets.items():
        row = ledger.rows.get(ticket_id)
        said = row.outcome if row else "no row"

        def difference(kind: str, *, of: str = ticket_id, on: TicketRecord = record, row: str = said) -> Difference:
            return Difference(kind=kind, sku=on.sku, subject=of, redis=on.state, postgres=row)

        if record.state == State.RESERVED:
            if row is not None and row.order is not None:
                yield difference("verdict_unsettled")
            elif ticket_id not in account.to_send_again:
                yield difference("order_unsent")
        elif row is None:
            sold = record.state in {State.CONFIRMED, State.RELEASED}
            yield difference("row_missing" if sold else "history_missing")
        elif row.outcome != record.state or (row.sold and set(row.sold.units) != set(record.units)):
            yield difference("outcome_differs")


def _others(account: Account, ledger: Ledger) -> Iterator[Difference]:
    for ticket_id, state in account.others.items():
        row = ledger.rows[ticket_id]
        if (
            state == row.outcome
        ):  # LEFT or SOLD_OUT, which Postgres has of a sale that was rebuilt while it was archived
            continue
        kind = "ticket_unknown"
        if state is not None:
            kind = "verdict_unsettled" if State(state) in LIVE and row.order else "outcome_differs"
        yield Difference(kind=kind, sku=row.sku, subject=ticket_id, redis=state or "no ticket", postgres=row.outcome)


def _units(account: Account, ledger: Ledger) -> Iterator[Difference]:
    sold = {(row.sku, unit): row.ticket_id for row in ledger.rows.values() if row.sold for unit in row.sold.units}
    hands: dict[tuple[str, int], list[str]] = {}
    for ticket_id, record in account.tickets.items():
        for unit in record.units:
            hands.setdefault((record.sku, unit), []).append(ticket_id)
    for (sku, unit), ids in hands.items():
        owners = sorted({*ids, sold.get((sku, unit), ids[0])})
        if len(owners) > 1:
            yield _of_unit("unit_twice", sku, unit, f"held by {', '.join(ids)}", _sold_to(sold.get((sku, unit))))
    for sku, first in account.next_serial.items():
        for unit in account.returned[sku] & {of for at, of in sold if at == sku}:
            yield _of_unit("unit_free", sku, unit, "in stock", _sold_to(sold[sku, unit]))
        somewhere = account.returned[sku] | account.withdrawn[sku]
        for unit in range(1, first):
            if unit not in somewhere and (sku, unit) not in hands and (sku, unit) not in sold:
                yield _of_unit("unit_lost", sku, unit, "in no hand", "not sold")


def _of_unit(kind: str, sku: str, unit: int, redis: str, postgres: str) -> Difference:
    return Difference(kind=kind, sku=sku, subject=str(unit), redis=redis, postgres=postgres)


def _sold_to(ticket_id: str | None) -> str:
    return f"sold to {ticket_id}" if ticket_id else "not sold"


def _slots(account: Account, ledger: Ledger) -> Iterator[Difference]:
    taken: dict[tuple[str, str], set[int]] = {}
    for record in account.tickets.values():
        if record.slots:
            taken.setdefault((record.sku, record.buyer), set()).update(record.slots)
    sold: dict[tuple[str, str], set[int]] = {}
    for row in ledger.rows.values():
        if row.sold:
            sold.setdefault((row.sku, row.buyer_id), set()).update(row.sold.slots)
    for who in taken.keys() | sold.keys() | account.held.keys():
        held, used = set(account.held.get(who, ())), taken.get(who, set()) | sold.get(who, set())
        for slot in held - used:
            yield _of_slot("slot_lost", who, slot, "taken", "by no order")
        for slot in sold.get(who, set()) - held:
            yield _of_slot("slot_free", who, slot, "free", "sold")


def _of_slot(kind: str, who: tuple[str, str], slot: int, redis: str, postgres: str) -> Difference:
    return Difference(kind=kind, sku=who[0], subject=who[1], number=slot, redis=redis, postgres=postgres)


def _stocks(account: Account, ledger: Ledger) -> Iterator[Difference]:
    if not account.settled:
        return
    for sku, high in account.high.items():
        known = ledger.high.get(sku)
        if known != high:
            yield Difference(kind="stock_differs", sku=sku, subject="high", redis=str(high), postgres=str(known))
