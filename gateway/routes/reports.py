"""What operators read: sales, counts, and what Postgres keeps of them. Needs the role viewer."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, cast

from litestar import Response, get
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler
from msgspec import Meta

from fairline.store.room import Room
from gateway.answers import AnyRequest, answer
from gateway.auth import Keyring
from gateway.board import is_sale_id
from gateway.counts import counts_of
from gateway.openapi import OPT, Doc
from gateway.problems import Problem, shown
from gateway.records import Records, What
from gateway.sale_desk import SaleDesk
from gateway.schemas import OperatorSale, SaleCounts, SaleList
from gateway.tallies import Tallies

MOST_LISTED: Final = 500
LISTED: Final = 100
Query = Mapping[str, tuple[Any, str]]

_VALUE: Final = re.compile(r"[A-Za-z0-9:._+-]{1,128}")
LIMIT: Final = (Annotated[int, Meta(ge=1, le=MOST_LISTED)], f"rows a page; {LISTED} where it is absent")
_BY_ID: Final = {"limit": LIMIT, "after": (str, "the `next` of the page before")}
_BY_CURSOR: Final = {"limit": LIMIT, "cursor": (str, "the `next` of the page before")}


def _doc(summary: str, **more: Any) -> dict[str, Doc]:
    problems = ("recovering", *more.pop("problems", ()))
    return {OPT: Doc(tag="operators", who="viewer", summary=summary, problems=problems, **more)}


_LIST: Final = _doc("List the sales", query=_BY_ID, answers={200: (SaleList, "a page")}, problems=("invalid_query",))
_SHOW: Final = _doc("Show a sale", answers={200: (OperatorSale, "the sale")}, problems=("unknown_sale",))
_STATS: Final = _doc("Count tickets, now", answers={200: (SaleCounts, "one instant")}, problems=("unknown_sale",))


def reports(
    keyring: Keyring, desk: SaleDesk, room: Room, tallies: Tallies, records: Records
) -> list[ControllerRouterHandler]:
    """The routes, served by these."""
    viewer = [keyring.needs("viewer")]

    @get("/admin/sales", guards=viewer, opt=_LIST)
    async def list_sales(request: AnyRequest) -> Response[bytes]:
        query = checked_query(request, _BY_ID)
        return answer(await desk.list(after=query.get("after", ""), limit=int(query.get("limit", LISTED))))

    @get("/admin/sales/{sale_id:str}", guards=viewer, opt=_SHOW)
    async def show_sale_to_operator(sale_id: FromPath[str]) -> Response[bytes]:
        return answer(await desk.show(known(sale_id)))

    @get("/admin/sales/{sale_id:str}/stats", guards=viewer, opt=_STATS)
    async def count_tickets(sale_id: FromPath[str]) -> Response[bytes]:
        await tallies.flush(known(sale_id))
        reply = await room.stats(sale_id)
        named = await room.named_skus(sale_id)
        if reply is None or named is None:
            raise Problem("unknown_sale")
        return answer(counts_of(sale_id, named, reply))

    def passing_on(what: What, path: str, summary: str, known_query: Query) -> ControllerRouterHandler:
        doc = _doc(
            summary,
            query=known_query,
            answers={200: ("application/json", "as Postgres has it")},
            problems=("unknown_sale", "invalid_query", "bad_gateway"),
        )

        @get(f"/admin/sales/{{sale_id:str}}/{path}", guards=viewer, opt=doc, name=f"read_{path}")
        async def pass_on(request: AnyRequest, sale_id: FromPath[str]) -> Response[bytes]:
            query = checked_query(request, known_query)
            return answer(await records.ask(known(sale_id), what, query))

        return pass_on

    return [
        list_sales,
        show_sale_to_operator,
        count_tickets,
        passing_on("history", "history", "What was done to a sale, the latest first", _BY_CURSOR),
        passing_on("sold", "sold", "The units sold, one row each", _BY_CURSOR),
        passing_on("stats", "records", "How tickets ended, as Postgres has it", {}),
    ]


def known(sale_id: str) -> str:
    """The id; raises ``Problem`` for one that no sale can have."""
    if not is_sale_id(sale_id):
        raise Problem("unknown_sale")
    return sale_id


def checked_query(request: AnyRequest, known_query: Query) -> dict[str, str]:
    """The query's parameters; raises ``Problem`` for one that is not known, or whose value cannot be."""
    query = dict(cast("Mapping[str, str]", request.query_params))
    for name, value in query.items():
        if name not in known_query or not _VALUE.fullmatch(value):
            raise Problem("invalid_query", f"Query parameter {shown(name)}: unknown, or its value is not allowed.")
    limit = query.get("limit", "1")
    if not (limit.isdigit() and len(limit) <= len(str(MOST_LISTED)) and 1 <= int(limit) <= MOST_LISTED):
        raise Problem("invalid_query", f"Query parameter limit: a whole number from 1 to {MOST_LISTED}.")
    return query
