"""The audit log: who did what, to what, why and when. Written in the transaction that decides that it may be done.

Rows are only added, and before the act takes effect, so that nothing is done that is not in the log. Calls by which
nothing changes any more are not in it.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from order_service.postgres import Connection
from order_service.queries import query

_LAST: Final = 2**63 - 1
_Text = Annotated[str, Meta(max_length=500)]


class Act(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who asks for something, why, and under which id the gateway logged it."""

    operator: _Text
    role: _Text
    reason: _Text
    request_id: _Text


async def record(connection: Connection, act: Act, action: str, subject: str, sale_id: str | None) -> None:
    """Add a row, as part of the caller's transaction."""
    words = (_clean(text) for text in (act.reason, act.request_id))
    await connection.execute(query("add_audit"), act.operator, act.role, action, subject, sale_id, *words)


async def page(connection: Connection, sale_id: str | None, limit: int, before: int | None) -> object:
    """The latest first; ``next`` is the cursor of the page after, null on the last."""
    rows = await connection.fetch(query("list_audit"), _LAST if before is None else before, sale_id, limit + 1)
    acts = [dict(row) for row in rows[:limit]]
    return {"acts": acts, "next": str(acts[-1]["audit_id"]) if len(rows) > limit else None}


def _clean(text: str) -> str:
    return text.replace("\x00", "\ufffd")
