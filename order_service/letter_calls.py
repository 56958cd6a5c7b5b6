"""Dead letters and the audit log as HTTP on the internal port, for the gateway; all other paths are passed on.

    GET  /internal/dead-letters?sale_id&state&limit&cursor       after a look at their topics
    GET  /internal/dead-letters/{id}                             with what it holds
    POST /internal/dead-letters/{id}/replay|readmit|discard      {operator, role, reason, request_id}
    POST /internal/dead-letters/{id}/readmitted                  {ticket_id}
    GET  /internal/audit?sale_id&limit&cursor                    the latest first

There is no key to show here: the port belongs to the inside. Bodies have at most 8 KB. Errors are problem+json.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from fairline.ids import SaleId, TicketId
from fairline.runtime.health import Asgi, Receive, Send
from order_service import audit
from order_service.audit import Act
from order_service.letters import STATES, Letters
from order_service.postgres import Postgres
from order_service.problems import Problem, body_of, checked, limit_of, number_of, only, query_of, respond

MOST_BODY_BYTES: Final = 8 * 1024
_LETTER: Final = re.compile(
    r"/internal/dead-letters/([A-Za-z0-9][A-Za-z0-9._-]{0,299})(?:/(replay|readmit|readmitted|discard))?"
)

T = TypeVar("T")


class _Readmitted(msgspec.Struct, forbid_unknown_fields=True):
    ticket_id: TicketId


class LetterCalls:
    """The ASGI application; what it does not know is for ``others``."""

    def __init__(self, postgres: Postgres, letters: Letters, others: Asgi) -> None:
        self._postgres = postgres
        self._letters = letters
        self._others = others

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith(("/internal/dead-letters", "/internal/audit")):
            await self._others(scope, receive, send)
            return
        await respond(send, self._answer(scope["method"], scope["path"], query_of(scope), receive))

    async def _answer(self, method: str, path: str, query: Mapping[str, str], receive: Receive) -> object:
        letter = _LETTER.fullmatch(path)
        wants = "POST" if letter and letter[2] else "GET"
        if not (letter or path in ("/internal/dead-letters", "/internal/audit")):
            raise Problem(404, "not_found", "there is nothing here")
        if method != wants:
            raise Problem(405, "method_not_allowed", f"only {wants}")
        if letter:
            only(query)
            return await self._letter(letter[1], letter[2], receive)
        sale_id = checked(query["sale_id"], SaleId, "sale_id") if "sale_id" in query else None
        limit, cursor = limit_of(query), query.get("cursor")
        if path == "/internal/audit":
            only(query, "sale_id", "limit", "cursor")
            async with self._postgres.connection() as connection:
                return await audit.page(connection, sale_id, limit, None if cursor is None else number_of(cursor))
        only(query, "sale_id", "state", "limit", "cursor")
        state = query.get("state")
        if state not in (None, *STATES):
            raise Problem(400, "invalid_query", f"state: must be one of {', '.join(STATES)}")
        return await self._letters.page(sale_id, state, limit, number_of(cursor or "0"))

    async def _letter(self, letter_id: str, act: str | None, receive: Receive) -> object:
        if act is None:
            return await self._letters.show(letter_id)
        if act == "readmitted":
            return await self._letters.readmitted(letter_id, (await _body(receive, _Readmitted)).ticket_id)
        acts = {"replay": self._letters.replay, "readmit": self._letters.readmit, "discard": self._letters.discard}
        return await acts[act](letter_id, await _body(receive, Act))


async def _body(receive: Receive, kind: type[T]) -> T:
    body = await body_of(receive, most_bytes=MOST_BODY_BYTES)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise Problem(400, "invalid_body", str(error)) from error
