"""A buyer's own ticket: its status, and leaving the line. Needs the ticket's token, which is checked without I/O.

Status calls of one turn of the event loop are one script call, like joins: a crowd that polls costs Redis little.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar.types import Scope

from fairline import clock
from fairline.errors import FencedError
from fairline.ids import readmission_of
from fairline.states import SaleState, State
from fairline.store.room import Room
from fairline.store.tickets import Shown, Ticket
from fairline.tokens import Claims, TokenKeys
from gateway.batches import Batcher
from gateway.board import Board, Seen
from gateway.bodies import bearer
from gateway.problems import Problem
from gateway.schemas import NewTicket, TicketAnswer
from gateway.settings import GatewaySettings

SOON_S: Final = 1.0  # between two status calls of a ticket whose turn is near or has come
LATE_S: Final = 10.0  # of one that has long to wait
_SHARE: Final = 0.1  # of the expected wait
READMISSION_S: Final = 30.0  # between two looks whether a RELEASED ticket's buyer was readmitted

Wanted = tuple[str, str]  # ticket_id, sku


def next_poll_s(ticket: Ticket, eta_s: float | None) -> float | None:
    """When to ask again; nothing for a ticket that has its outcome."""
    if ticket.final:
        return None
    if ticket.position is None:
        return SOON_S
    return round(min(LATE_S, max(SOON_S, (ticket.position if eta_s is None else eta_s) * _SHARE)), 1)


def claims_of(sale_id: str, ticket: Ticket) -> Claims:
    """What the token of a ticket says."""
    return Claims(
        sale_id=sale_id,
        sku=ticket.sku,
        buyer_id=ticket.buyer_id,
        ticket_id=ticket.ticket_id,
        arrival=ticket.arrival,
        number=ticket.number,
        quantity=ticket.asked or ticket.quantity,
        fewer=ticket.asked > 0,
    )


class Tickets:
    """Reads and gives up tickets of all sales."""

    def __init__(self, room: Room, board: Board, tokens: TokenKeys, settings: GatewaySettings) -> None:
        self._room = room
        self._board = board
        self._tokens = tokens
        self._settings = settings
        bounds: Any = {
            "in_flight": settings.in_flight_batches,
            "most_waiting": settings.max_requests,
            "deadline_s": settings.deadline_s,
        }
        self.batcher: Batcher[Wanted, Ticket | None] = Batcher(self._read_all, most=settings.batch_tickets, **bounds)
        self.showing: Batcher[Shown, Ticket | None] = Batcher(self._room.show, most=settings.batch_tickets, **bounds)
        # One a call, but few calls at a time: or a crowd that leaves would take every connection to Redis.
        self.leaving: Batcher[Wanted, tuple[str, Ticket | None]] = Batcher(self._leave_one, most=1, **bounds)

    async def status(self, scope: Scope, sale_id: str, ticket_id: str) -> TicketAnswer:
        """The ticket as it stands; raises ``Problem``. A lost ticket has its place again (D4)."""
        claims, seen = await self._claims(scope, sale_id, ticket_id)
        ticket = await self.batcher.submit(sale_id, (ticket_id, claims.sku))
        if ticket is None or ticket.unseen or _came_earlier(claims, ticket):
            ticket = await self.showing.submit(sale_id, _shown(claims))
        if ticket is None or ticket.state is not State.RELEASED:
            return _answer(ticket_id, seen, ticket)
        # Whose token opens the old ticket may have the new one's: that is how its owner, and nobody else, learns of it.
        new = await self.batcher.submit(sale_id, (readmission_of(sale_id, ticket.ticket_id), claims.sku))
        may_come = new is None and seen.state in (SaleState.OPEN, SaleState.PAUSED)
        return msgspec.structs.replace(
            _answer(ticket_id, seen, ticket),
            next_poll_s=READMISSION_S if may_come else None,
            readmitted_as=None if new is None else self._new_ticket(sale_id, new),
        )

    async def leave(self, scope: Scope, sale_id: str, ticket_id: str) -> TicketAnswer:
        """The ticket in LEFT, again and again; raises ``Problem`` where it is not WAITING."""
        claims, seen = await self._claims(scope, sale_id, ticket_id)
        word, ticket = await self.leaving.submit(sale_id, (ticket_id, claims.sku))
        if word == "UNKNOWN":  # lost with Redis, perhaps: then there is a place to give up
            found = await self.showing.submit(sale_id, _shown(claims))
            if found is not None:
                word, ticket = await self.leaving.submit(sale_id, (found.ticket_id, claims.sku))
        if word == "NOT_WAITING" and ticket is not None:
            raise Problem("not_waiting", state=ticket.state)
        return _answer(ticket_id, seen, ticket)

    async def _claims(self, scope: Scope, sale_id: str, ticket_id: str) -> tuple[Claims, Seen]:
        token = bearer(scope)
        if token is None:
            problem = Problem("token_required")
            problem.headers.append((b"www-authenticate", b'Bearer realm="fairline"'))
            raise problem
        claims = self._tokens.check(token, sale_id=sale_id, ticket_id=ticket_id)
        seen = await self._board.sale(sale_id)
        if seen is None or claims.sku not in seen.rows:
            raise FencedError  # we signed for that sale, so there was one: Redis has lost it
        return claims, seen

    def _new_ticket(self, sale_id: str, ticket: Ticket) -> NewTicket:
        path = f"/sales/{sale_id}/tickets/{ticket.ticket_id}"
        return NewTicket(
            ticket_id=ticket.ticket_id,
            token=self._tokens.sign(claims_of(sale_id, ticket)),
            status_url=self._settings.gateway_url.rstrip("/") + path,
            ws_url=self._settings.notifier_url.rstrip("/") + path,
        )

    async def _read_all(self, sale_id: str, wanted: Sequence[Wanted]) -> list[Ticket | None]:
        return await self._room.read(sale_id, wanted)

    async def _leave_one(self, sale_id: str, wanted: Sequence[Wanted]) -> list[tuple[str, Ticket | None]]:
        return [await self._room.leave(sale_id, ticket_id, sku) for ticket_id, sku in wanted]


def _shown(claims: Claims) -> Shown:
    return Shown(
        ticket_id=claims.ticket_id,
        sku=claims.sku,
        buyer_id=claims.buyer_id,
        quantity=claims.quantity,
        asked=claims.quantity if claims.fewer else 0,
        arrival=claims.arrival,
        number=claims.number,
    )


def _came_earlier(claims: Claims, ticket: Ticket) -> bool:
    """Whether the ticket was lost, and the buyer joined again by the same request before showing this token."""
    return claims.arrival < ticket.arrival and ticket.state in {State.WAITING, State.ADMITTED}


def _answer(ticket_id: str, seen: Seen, ticket: Ticket | None) -> TicketAnswer:
    """Under the id that was asked for, whichever ticket answers for it."""
    if ticket is None:
        # Of a closed sale no record is removed but by archiving (C2), and its token said that there was one.
        raise Problem("archived" if seen.state is SaleState.CLOSED else "unknown_ticket")
    ahead = None if ticket.position is None else ticket.position - 1
    eta_s = None if ahead is None else seen.eta_s(ticket.sku, ahead)
    return TicketAnswer(
        ticket_id=ticket_id,
        sale_id=seen.sale_id,
        sku=ticket.sku,
        state=ticket.state,
        outcome=ticket.state if ticket.final else None,
        reason=ticket.reason,
        position=ticket.position,
        ahead=ahead,
        eta_s=eta_s,
        quantity=ticket.quantity,
        units=ticket.units,
        arrival=ticket.arrival,
        number=ticket.number,
        epoch=ticket.epoch,
        next_poll_s=next_poll_s(ticket, eta_s),
        changed_at=clock.at(ticket.changed_ms),
        readmitted_as=None,
    )
