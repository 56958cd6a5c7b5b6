"""The join, from a request to its answer: the gateway's hot path.

One ticket id a request: from the Idempotency-Key, so that every repeat proposes the same one, or a new one. The joins
of one turn of the event loop are one script call (``batches``). A client that hangs up changes nothing: its join is
made, and its repeat finds the ticket.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from litestar.types import Receive, Scope, Send

from fairline import ids
from fairline.errors import FairlineError
from fairline.runtime.metrics import Metrics
from fairline.store.room import Room
from fairline.store.tickets import Join, Ticket
from fairline.tokens import TokenKeys
from gateway.batches import Batcher
from gateway.board import Board, Seen
from gateway.bodies import BUYERS_LIMIT_BYTES, Body, ClientGoneError, header, invalid
from gateway.problems import Headers, Problem, of_error
from gateway.schemas import JoinAnswer, JoinRequest
from gateway.settings import GatewaySettings
from gateway.tallies import Tallies
from gateway.tickets import claims_of

_KEY: Final = re.compile(r"[!-~]{1,128}")
_LONGEST_TO_OPENING_S: Final = 60  # of Retry-After before the opening: times of opening get changed
_CODES: Final = {"KEY_REUSED": "idempotency_key_reused"}
HEADERS: Final[Headers] = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
_encode: Final = msgspec.json.Encoder().encode

Joined = tuple[str, Ticket | None]


def idempotency_key(scope: Scope) -> str | None:
    """The header's value; raises ``Problem`` for one that is not 1 to 128 visible ASCII characters."""
    key = header(scope, b"idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise Problem("invalid_idempotency_key")
    return key


class Joins:
    """Takes joins of all sales."""

    def __init__(
        self,
        room: Room,
        board: Board,
        tallies: Tallies,
        *,
        tokens: TokenKeys,
        metrics: Metrics,
        settings: GatewaySettings,
    ) -> None:
        self._room = room
        self._board = board
        self._tallies = tallies
        self._tokens = tokens
        self._metrics = metrics
        self._settings = settings
        self._body = Body(JoinRequest, limit_bytes=BUYERS_LIMIT_BYTES, within_s=settings.body_timeout_s)
        self.batcher: Batcher[Join, Joined] = Batcher(
            self._join_all,
            most=settings.batch_tickets,
            in_flight=settings.in_flight_batches,
            most_waiting=settings.max_requests,
            deadline_s=settings.deadline_s,
            seen=metrics.join_batch.observe,
        )
        metrics.joins_waiting.set_function(lambda: self.batcher.waiting)

    async def serve(self, sale_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer ``POST /sales/{sale_id}/tickets`` as a plain ASGI application: the front sends joins here."""
        try:
            status, body = await self.answer(sale_id, scope, receive)
            headers = HEADERS
        except ClientGoneError:
            return
        except (Problem, FairlineError) as error:
            problem = error if isinstance(error, Problem) else of_error(error)
            if problem is None:
                raise
            status, headers, body = problem.answer(scope["state"]["request_id"])
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def answer(self, sale_id: str, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        """Status and JSON; raises ``Problem`` and the kernel's errors."""
        key = idempotency_key(scope)
        asked = await self._body.read(scope, receive)
        fault = ids.buyer_fault(asked.buyer_id)
        if fault:
            raise invalid("buyer_id", fault)
        word, ticket = await self._join(sale_id, asked, key)
        new = word == "JOINED" or (word == "SAME" and key is None)  # without a key only our own retry is "the same"
        return 202 if new else 200, _encode(self._ticket(sale_id, ticket, told=word != "LIVE"))

    async def _join(self, sale_id: str, asked: JoinRequest, key: str | None) -> tuple[str, Ticket]:
        seen = self._board.fresh(sale_id) or await self._board.sale(sale_id)
        if seen is None:
            raise Problem("unknown_sale")
        if asked.sku not in seen.rows:
            self._tallies.refused(sale_id, "", "unknown_sku")
            raise Problem("unknown_sku")
        refusal = seen.refusal(asked.sku, keyed=key is not None, max_waiting=self._settings.max_waiting)
        if refusal:
            self._tallies.refused(sale_id, asked.sku, refusal)
            self._metrics.joins.labels(refusal.upper()).inc()
            raise self._refusal(refusal, seen)
        ticket_id = ids.new_ticket_id() if key is None else ids.ticket_id_for(sale_id, asked.sku, asked.buyer_id, key)
        word, ticket = await self.batcher.submit(
            sale_id, Join(ticket_id, asked.sku, asked.buyer_id, asked.quantity, asked.accept_fewer)
        )
        self._metrics.joins.labels(word).inc()
        if ticket is None:
            raise self._refusal(_CODES.get(word, word.lower()), seen)
        return word, ticket

    async def _join_all(self, sale_id: str, joins: Sequence[Join]) -> list[Joined]:
        return await self._room.join(sale_id, joins, max_waiting=self._settings.max_waiting)

    @staticmethod
    def _refusal(code: str, seen: Seen) -> Problem:
        if code == "not_open" and seen.opens_at_ms > seen.now_ms:
            wait_s = min(_LONGEST_TO_OPENING_S, (seen.opens_at_ms - seen.now_ms) / 1000)
            return Problem(code, retry_s=wait_s)
        return Problem(code)

    def _ticket(self, sale_id: str, ticket: Ticket, *, told: bool) -> JoinAnswer:
        path = f"/sales/{sale_id}/tickets/{ticket.ticket_id}"
        return JoinAnswer(
            ticket_id=ticket.ticket_id,
            token=self._tokens.sign(claims_of(sale_id, ticket)) if told else None,
            arrival=ticket.arrival,
            number=ticket.number,
            epoch=ticket.epoch,
            position=ticket.position,
            ahead=None if ticket.position is None else ticket.position - 1,
            state=ticket.state,
            reason=ticket.reason,
            sku=ticket.sku,
            quantity=ticket.quantity,
            status_url=self._settings.gateway_url.rstrip("/") + path,
            ws_url=self._settings.notifier_url.rstrip("/") + path,
        )
