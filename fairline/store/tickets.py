"""A ticket as everybody outside Redis handles it, and what is asked of the waiting room."""

from typing import Final, NamedTuple

import msgspec

from fairline import frames
from fairline.states import TERMINAL, State
from fairline.store.scripts import TicketRecord

ARRIVALS_AN_EPOCH: Final = 2**40
UNSEEN: Final = "unseen"  # as the scripts' prelude has it


class Join(NamedTuple):
    """A wish for a place in line; the ticket it makes has this id. ``accept_fewer``: see Q1 in ``admit.lua``."""

    ticket_id: str
    sku: str
    buyer_id: str
    quantity: int
    accept_fewer: bool = False


class Shown(NamedTuple):
    """What a genuine token says of its ticket, for ``show``. ``asked`` as in ``Ticket``."""

    ticket_id: str
    sku: str
    buyer_id: str
    quantity: int
    asked: int
    arrival: int
    number: int


class Ticket(msgspec.Struct, frozen=True):
    """A ticket with its place, as everybody outside Redis handles it."""

    ticket_id: str
    state: State
    sku: str
    buyer_id: str
    quantity: int
    arrival: int
    number: int
    epoch: int
    units: tuple[int, ...]
    reason: str | None
    changed_ms: int
    position: int | None
    asked: int = 0  # units asked for, where fewer are fine (Q1); else 0
    unseen: bool = False  # its buyer has not come since the sale was rebuilt (D3)

    @property
    def final(self) -> bool:
        """Whether this state is the last."""
        return self.state in TERMINAL


def ticket_of(ticket_id: str, record: TicketRecord | None, place: tuple[int, int], rank: int) -> Ticket | None:
    """The ticket of a record, if any; ``place`` is (served, older) of its sku, ``rank`` as ``read.lua`` gives it."""
    if record is None:
        return None
    state = State(record.state)
    served, older = place
    position = None
    unseen = record.lease == UNSEEN
    if state is State.WAITING and not unseen:
        position = rank + 1 if rank >= 0 else frames.position(number=record.number, served=served, older=older)
    return Ticket(
        ticket_id=ticket_id,
        state=state,
        sku=record.sku,
        buyer_id=record.buyer,
        quantity=record.quantity,
        arrival=record.arrival,
        number=record.number,
        epoch=record.arrival // ARRIVALS_AN_EPOCH,
        units=record.units,
        reason=record.reason or None,
        changed_ms=record.changed_ms,
        position=position,
        asked=record.asked,
        unseen=unseen,
    )
