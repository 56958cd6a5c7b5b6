"""What whoever rebuilds a sale in Redis asks of Postgres, and the one thing it changes here (D2, V7).

    GET  /internal/sales?limit&cursor                      the sales that may have to be rebuilt
    GET  /internal/archived?limit&cursor                   the archived ones, with what Redis kept of them (C2)
    GET  /internal/sales/{sale_id}/definition              the whole sale after its last change, epoch and version
    POST /internal/sales/{sale_id}/epoch {"epoch": 3}      3 becomes 4, if it still is 3; else 409 and what it is
    GET  /internal/sales/{sale_id}/tickets?limit&cursor    the tickets that ended, with their orders

After ``epoch`` was answered no order of an older epoch gets a row any more: the update waits for the transactions that
hold the sale's row, and those that come later see the new epoch. So what ``tickets`` answers from then on is final.
"""

from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from fairline.clock import to_ms
from order_service.postgres import Connection
from order_service.problems import Problem
from order_service.queries import query

MOST_BODY_BYTES: Final = 1024
_ENDED: Final = ("ticket_id", "outcome", "sku", "buyer_id", "quantity", "arrival", "reason", "readmitted_as")
_NO_TICKET: Final = str(UUID(int=0))


class _Epoch(msgspec.Struct, forbid_unknown_fields=True):
    epoch: Annotated[int, Meta(ge=0, le=2**62)]


async def list_sales(connection: Connection, _: str, limit: int, cursor: str | None) -> object:
    """A page of all sales that are not archived."""
    rows = await connection.fetch(query("list_sales"), cursor or "", limit + 1)
    sales = [dict(row) for row in rows[:limit]]
    return {"sales": sales, "next": sales[-1]["sale_id"] if len(rows) > limit else None}


async def list_archived(connection: Connection, _: str, limit: int, cursor: str | None) -> object:
    """A page of the archived ones; ``counts`` are the fields that Redis last told, ``sold`` units by sku."""
    rows = await connection.fetch(query("list_archived"), cursor or "", limit + 1)
    sales = [
        {
            **{name: row[name] for name in ("sale_id", "epoch", "version")},
            "sale": _raw(row["definition"]),
            "counts": _raw(row["counts"]),
            "sold": _raw(row["sold"]),
        }
        for row in rows[:limit]
    ]
    return {"sales": sales, "next": sales[-1]["sale_id"] if len(rows) > limit else None}


async def definition(connection: Connection, sale_id: str) -> object:
    """``sale`` is a ``sale.changed.v1``."""
    row = await connection.fetchrow(query("sale_definition"), sale_id)
    assert row is not None  # noqa: S101 - its caller has just seen it, and sales are never removed
    return {"epoch": row["epoch"], "version": row["version"], "sale": _raw(row["definition"])}


async def raise_epoch(connection: Connection, sale_id: str, body: bytes) -> object:
    """One more than the epoch that is named. A repeat is refused, and the refusal says which epoch there is."""
    try:
        named = msgspec.json.decode(body, type=_Epoch).epoch
    except msgspec.MsgspecError as error:
        raise Problem(400, "invalid_body", f"the body must be {{'epoch': number}}: {error}") from error
    epoch = await connection.fetchval(query("raise_epoch"), sale_id, named)
    if epoch is not None:
        return {"epoch": epoch}
    row = await connection.fetchrow(query("known_sale"), sale_id)
    assert row is not None  # noqa: S101 - as above
    raise Problem(409, "epoch_moved", f"the epoch of {sale_id} is {row['epoch']}", epoch=row["epoch"])


async def tickets(connection: Connection, sale_id: str, limit: int, cursor: str | None) -> object:
    """A page of those that ended; ``order`` is null where a ticket never came to one."""
    try:
        after = str(UUID(cursor or _NO_TICKET))
    except ValueError:
        raise Problem(400, "invalid_query", "cursor: is none that a page gave") from None
    rows = await connection.fetch(query("ended_tickets"), sale_id, after, limit + 1)
    found = [_ticket(row) for row in rows[:limit]]
    return {"tickets": found, "next": str(rows[limit - 1]["ticket_id"]) if len(rows) > limit else None}


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _ticket(row: Any) -> dict[str, object]:
    order = None
    if row["verdict"] is not None:
        order = {name: row[name] for name in ("verdict", "units", "slots", "epoch", "number")}
    ended = {name: row[name] for name in _ENDED}
    return {**ended, "at_ms": to_ms(row["at"]), "order": order}
