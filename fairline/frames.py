"""The words of the WebSocket, and the one rule by which everybody works out a place in line.

From the server: ``ticket`` (yours changed), ``progress`` (the line moved; the same bytes for everybody), ``bye``
(connect again after ``retry_after_ms``). From the client: ``hello`` with the token, if it is not a subprotocol. Types
that a client does not know are to be ignored.
"""

from typing import Final

import msgspec

SUBPROTOCOL: Final = "fairline.v1"


class CloseCode:
    """Why the server closes a connection. 1xxx are the protocol's own, 4xxx ours. More in docs/websocket.md."""

    GOING_AWAY: Final = 1001  # this copy stops; connect again
    TOO_SLOW: Final = 1013  # the client does not read; connect again later
    BAD_TOKEN: Final = 4401  # no token in time, a forged one, or one for another ticket; do not try again
    NOT_FOUND: Final = 4404  # no such ticket here; its status says whether it may come back (D4)
    ARCHIVED: Final = 4410  # the sale was closed long ago and its tickets are in the archive; do not try again
    TOO_OLD: Final = 4408  # the connection reached its longest life; connect again at once
    DONE: Final = 4200  # the outcome was told and is final; do not connect again
    GARBAGE: Final = 4400  # the client sent what is no frame


class Place(msgspec.Struct, frozen=True):
    """How far the line of one sku has come: ``position`` makes a place of it. ``outlook`` is rule E1's word."""

    served: int
    waiting: int
    older: int
    outlook: str


class TicketFrame(msgspec.Struct, frozen=True, tag="ticket", kw_only=True):
    """The present state of the ticket that this connection belongs to. Sent on connect and at each change."""

    sale_id: str
    ticket_id: str
    sku: str
    state: str
    reason: str | None
    quantity: int
    arrival: int
    number: int
    epoch: int
    units: tuple[int, ...]
    final: bool


class ProgressFrame(msgspec.Struct, frozen=True, tag="progress", kw_only=True):
    """How far the sale has come; the same bytes for every client of it.

    ``tail`` is the last arrival given out, ``rate`` tickets a second or null for no limit. While ``state`` is
    ``recovering`` nothing is known of the lines: ``items`` is empty, ``epoch`` and ``tail`` are the last known.
    """

    sale_id: str
    state: str
    message: str | None
    rate: float | None
    epoch: int
    tail: int
    items: dict[str, Place]
    server_time: str


class ByeFrame(msgspec.Struct, frozen=True, tag="bye", kw_only=True):
    """This server stops; come back after the given time, which differs from client to client."""

    retry_after_ms: int


class Hello(msgspec.Struct, frozen=True, tag="hello", kw_only=True):
    """A client's first message where the token is not a subprotocol."""

    token: str


def position(*, number: int, served: int, older: int) -> int:
    """Place in line, 1 for the next to go. Leavers make it an upper bound; it never grows.

    A ticket that came back from a lease stands before ``served`` and is next.
    """
    return max(1, older + number - served)
