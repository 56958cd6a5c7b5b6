"""The buyers' calls: look at a sale, join it, see a ticket, leave the line."""

from typing import Final

from litestar import Response, delete, get, post
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from gateway.answers import AnyRequest, answer
from gateway.board import Board
from gateway.joins import Joins
from gateway.openapi import OPT, Doc
from gateway.problems import Problem
from gateway.schemas import JoinAnswer, JoinRequest, PublicSale, TicketAnswer
from gateway.tickets import Tickets

# A cache in front may answer the crowd: one question a second reaches us.
SHARED: Final = "public, max-age=1, s-maxage=1"
_AWAY: Final = ("recovering", "unavailable", "overloaded")

_SHOW: Final = Doc(
    summary="How the sale stands",
    who="anybody",
    answers={200: (PublicSale, "the sale, at most 100 ms old"), 304: (None, "nothing but the time has changed")},
    problems=("unknown_sale", *_AWAY),
    headers={"If-None-Match": "the ETag of an earlier answer"},
)
_JOIN: Final = Doc(
    summary="Join the line",
    who="anybody",
    body=JoinRequest,
    answers={
        202: (JoinAnswer, "a new ticket: accepted, not yet sold"),
        200: (JoinAnswer, "the ticket that this request made before, or the buyer's live ticket (token null)"),
    },
    problems=(
        "invalid_idempotency_key",
        "unknown_sale",
        "unknown_sku",
        "already_bought",
        "over_limit",
        "sold_out",
        "sale_closed",
        "idempotency_key_reused",
        "not_open",
        "too_many_requests",
        "line_full",
        *_AWAY,
    ),
    headers={"Idempotency-Key": "1 to 128 visible ASCII characters; counts within sale, sku and buyer"},
)
_STATUS: Final = Doc(
    summary="How a ticket stands",
    who="ticket",
    answers={
        200: (
            TicketAnswer,
            "the ticket; Retry-After says when to ask again. After a rebuild of the sale this brings a place back",
        )
    },
    problems=("unknown_ticket", "archived", *_AWAY),
)
_LEAVE: Final = Doc(
    summary="Leave the line",
    who="ticket",
    answers={200: (TicketAnswer, "the ticket in LEFT; again: the same")},
    problems=("unknown_ticket", "archived", "not_waiting", *_AWAY),
)


def buyers(board: Board, joins: Joins, tickets: Tickets) -> list[ControllerRouterHandler]:
    """The routes, served by these."""

    @get("/sales/{sale_id:str}", opt={OPT: _SHOW})
    async def show_sale(request: AnyRequest, sale_id: FromPath[str]) -> Response[bytes]:
        seen = await board.sale(sale_id)
        if seen is None:
            raise Problem("unknown_sale")
        headers = {"cache-control": SHARED, "etag": seen.etag}
        if seen.etag in request.headers.get("if-none-match", ""):
            return Response(b"", status_code=304, headers=headers, media_type="application/json")
        return answer(seen.body, headers=headers)

    @post("/sales/{sale_id:str}/tickets", status_code=202, opt={OPT: _JOIN})
    async def join_sale(request: AnyRequest, sale_id: FromPath[str]) -> Response[bytes]:
        # Only odd spellings of the address come here: the front takes the others past Litestar, for speed.
        status, body = await joins.answer(sale_id, request.scope, request.receive)
        return answer(body, status=status)

    @get("/sales/{sale_id:str}/tickets/{ticket_id:str}", opt={OPT: _STATUS})
    async def show_ticket(request: AnyRequest, sale_id: FromPath[str], ticket_id: FromPath[str]) -> Response[bytes]:
        ticket = await tickets.status(request.scope, sale_id, ticket_id)
        return answer(ticket, retry_s=ticket.next_poll_s)

    @delete("/sales/{sale_id:str}/tickets/{ticket_id:str}", status_code=200, opt={OPT: _LEAVE})
    async def leave_line(request: AnyRequest, sale_id: FromPath[str], ticket_id: FromPath[str]) -> Response[bytes]:
        return answer(await tickets.leave(request.scope, sale_id, ticket_id))

    return [show_sale, join_sale, show_ticket, leave_line]
