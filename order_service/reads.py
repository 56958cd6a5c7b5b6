"""What operators may read of Postgres, as HTTP on the internal port; the gateway passes it on to those who may.

What a rebuild of Redis asks for is in ``recovery``, on the same port.

    GET /internal/sales/{sale_id}/stats                    how tickets ended, and the last counts of Redis
    GET /internal/sales/{sale_id}/history?limit&cursor     what was done to the sale, the latest first
    GET /internal/sales/{sale_id}/sold?limit&cursor        the units sold, by item and serial

There is no key to show here: the port belongs to the inside, and listens on loopback unless told otherwise. Pages are
bounded; ``cursor`` is what the page before gave as ``next``, which is null on the last one. Errors are problem+json.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from fairline.counts import MOST_REASONS, OTHER, sums_of
from fairline.ids import SaleId, Sku
from fairline.runtime.health import Asgi, Receive, Send
from fairline.states import TERMINAL
from order_service import recovery
from order_service.postgres import Connection, Postgres
from order_service.problems import Problem, body_of, checked, limit_of, number_of, only, query_of, respond
from order_service.queries import query

_ROUTE: Final = re.compile(r"/internal/(?:(sales|archived)|sales/([^/]+)/([a-z]+))")
_LAST_VERSION: Final = 2**63 - 1


class Reads:
    """The ASGI application; what is not below ``/internal/`` is for ``health``."""

    def __init__(self, postgres: Postgres, health: Asgi) -> None:
        self._postgres = postgres
        self._health = health

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith("/internal/"):
            await self._health(scope, receive, send)
            return
        await respond(send, self._answer(scope, receive))

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> object:
        route = _ROUTE.fullmatch(scope["path"])
        if route is None or not (route[1] or route[3] in {*_PAGED, *_WHOLE, "epoch"}):
            raise Problem(404, "not_found", "there is nothing here")
        what = route[1] or route[3]
        method = "POST" if what == "epoch" else "GET"
        if scope["method"] != method:
            raise Problem(405, "method_not_allowed", f"only {method}")
        sale_id = checked(route[2], SaleId, "sale_id") if route[2] else ""
        page = query_of(scope)
        only(page, *(("limit", "cursor") if what in {*_LISTS, *_PAGED} else ()))
        limit, cursor = limit_of(page), page.get("cursor")
        body = await body_of(receive, most_bytes=recovery.MOST_BODY_BYTES) if what == "epoch" else b""
        async with self._postgres.connection() as connection:
            if what in _LISTS:
                return await _LISTS[what](connection, "", limit, cursor)
            if await connection.fetchrow(query("known_sale"), sale_id) is None:
                raise Problem(404, "unknown_sale", f"there is no sale {sale_id}")
            if what in _PAGED:
                return await _PAGED[what](connection, sale_id, limit, cursor)
            if what == "epoch":
                return await recovery.raise_epoch(connection, sale_id, body)
            return await _WHOLE[what](connection, sale_id)


async def _stats(connection: Connection, sale_id: str) -> object:
    async with connection.transaction(isolation="repeatable_read", readonly=True):  # one instant
        items = await connection.fetch(query("sale_items"), sale_id)
        counts = await connection.fetch(query("sale_stats"), sale_id, MOST_REASONS, OTHER)
        counted = await connection.fetchrow(query("sale_counts"), sale_id)
    outcomes = dict.fromkeys(sorted(TERMINAL), 0)
    reasons: dict[str, dict[str, int]] = {}
    by_item: dict[str, dict[str, int]] = {}
    for row in counts:
        outcome, tickets = row["outcome"], row["tickets"]
        outcomes[outcome] += tickets
        item = by_item.setdefault(row["sku"], dict.fromkeys(outcomes, 0))
        item[outcome] += tickets
        if row["reason"]:
            of = reasons.setdefault(outcome, {})
            of[row["reason"]] = of.get(row["reason"], 0) + tickets
    first = items[0]
    return {
        "sale_id": sale_id,
        "name": first["name"],
        "state": first["state"],
        "version": first["version"],
        "epoch": first["epoch"],
        "outcomes": outcomes,
        "reasons": reasons,
        "items": [
            {
                "sku": item["sku"],
                "name": item["item"],
                "stock": item["stock"],
                "sold": item["sold"],
                "outcomes": by_item.get(item["sku"], dict.fromkeys(outcomes, 0)),
            }
            for item in items
            if item["sku"] is not None
        ],
        "counted": _counted(dict(counted), [item["sku"] for item in items]) if counted else None,
    }


def _counted(row: Mapping[str, Any], skus: Iterable[str]) -> object:
    total, by_sku = sums_of(msgspec.json.decode(row["counts"], type=dict[str, int]), skus)
    return {
        "at": row["at"],
        **total.fields(),
        "items": [{"sku": sku, **sums.fields()} for sku, sums in by_sku.items() if sku is not None],
    }


async def _history(connection: Connection, sale_id: str, limit: int, cursor: str | None) -> object:
    before = _LAST_VERSION if cursor is None else number_of(cursor)
    rows = await connection.fetch(query("sale_changes"), sale_id, before, limit + 1)
    changes = [{**row, "snapshot": msgspec.Raw(row["snapshot"].encode())} for row in rows[:limit]]
    return {"changes": changes, "next": str(changes[-1]["version"]) if len(rows) > limit else None}


async def _sold(connection: Connection, sale_id: str, limit: int, cursor: str | None) -> object:
    sku, _, unit = (cursor or ":0").rpartition(":")
    after = checked(sku, Sku, "cursor") if cursor else ""
    rows = await connection.fetch(query("sold_units"), sale_id, after, number_of(unit), limit + 1)
    units = [dict(row) for row in rows[:limit]]
    last = units[-1] if len(rows) > limit else None
    return {"units": units, "next": f"{last['sku']}:{last['unit']}" if last else None}


_Paged = Callable[[Connection, str, int, str | None], Awaitable[object]]
_LISTS: Final[Mapping[str, _Paged]] = {"sales": recovery.list_sales, "archived": recovery.list_archived}
_PAGED: Final[Mapping[str, _Paged]] = {
    "history": _history,
    "sold": _sold,
    "tickets": recovery.tickets,
}
_WHOLE: Final[Mapping[str, Callable[[Connection, str], Awaitable[object]]]] = {
    "stats": _stats,
    "definition": recovery.definition,
}
