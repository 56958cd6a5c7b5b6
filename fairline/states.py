"""The life of a ticket as one table: state, event -> state. Everything else is refused.

The Redis scripts carry this very table (``fairline.store.scripts`` writes it into each of them), so a move that is
not here cannot be made by anybody.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

from fairline.errors import IllegalMoveError


class State(StrEnum):
    """Where a ticket is."""

    WAITING = "WAITING"
    ADMITTED = "ADMITTED"
    RESERVED = "RESERVED"
    CONFIRMED = "CONFIRMED"
    DECLINED = "DECLINED"
    SOLD_OUT = "SOLD_OUT"
    LEFT = "LEFT"
    LAPSED = "LAPSED"
    RELEASED = "RELEASED"


class Event(StrEnum):
    """What can happen to a ticket."""

    ADMIT = "admit"
    LEAVE = "leave"
    SELL_OUT = "sell_out"
    DECLINE = "decline"
    RESERVE = "reserve"
    REQUEUE = "requeue"
    LAPSE = "lapse"
    CONFIRM = "confirm"
    RELEASE = "release"
    RECOVER = "recover"


LIVE: Final = frozenset({State.WAITING, State.ADMITTED, State.RESERVED})
TERMINAL: Final = frozenset(State) - LIVE

# CONFIRM and RELEASE are verdicts of Postgres and are forced on any live ticket (S1); RECOVER belongs to D3 alone.
MOVES: Final = MappingProxyType(
    {
        (State.WAITING, Event.ADMIT): State.ADMITTED,
        (State.WAITING, Event.LEAVE): State.LEFT,
        (State.WAITING, Event.SELL_OUT): State.SOLD_OUT,
        (State.WAITING, Event.DECLINE): State.DECLINED,
        (State.WAITING, Event.CONFIRM): State.CONFIRMED,
        (State.WAITING, Event.RELEASE): State.RELEASED,
        (State.ADMITTED, Event.RESERVE): State.RESERVED,
        (State.ADMITTED, Event.DECLINE): State.DECLINED,
        (State.ADMITTED, Event.REQUEUE): State.WAITING,
        (State.ADMITTED, Event.LAPSE): State.LAPSED,
        (State.ADMITTED, Event.CONFIRM): State.CONFIRMED,
        (State.ADMITTED, Event.RELEASE): State.RELEASED,
        (State.ADMITTED, Event.RECOVER): State.WAITING,
        (State.RESERVED, Event.CONFIRM): State.CONFIRMED,
        (State.RESERVED, Event.RELEASE): State.RELEASED,
        (State.RESERVED, Event.RECOVER): State.WAITING,
    }
)


class SaleState(StrEnum):
    """Where a sale is. ``recovering`` is never stored: it is what everybody reads while the fence does not hold."""

    DRAFT = "draft"
    OPEN = "open"
    PAUSED = "paused"
    RECOVERING = "recovering"
    ENDED = "ended"
    CLOSED = "closed"


def after(state: State, event: Event) -> State:
    """The state that ``event`` leads to; raises ``IllegalMoveError`` for a move that is not in the table."""
    try:
        return MOVES[state, event]
    except KeyError:
        raise IllegalMoveError(f"no ticket goes from {state} by {event}") from None
