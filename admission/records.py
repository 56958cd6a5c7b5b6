"""What Postgres knows, asked from the order service's internal port by what rebuilds a sale and by what compares it."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from fairline.errors import UnavailableError
from fairline.events import SaleChanged

PAGE: Final = 1_000
ARCHIVED_PAGE: Final = 100  # sales, each with its whole definition
MOST_BYTES: Final = 16 * 1024 * 1024  # of one answer; a page of tickets has some 300 kB
TIMEOUT_S: Final = 10.0
_OK, _AWAY = 200, 503
_PROBLEM: Final = "application/problem+json"
# Any other refusal is of somebody else, or of another version.
_NOTHING: Final = frozenset({"unknown_sale", "epoch_moved"})

T = TypeVar("T")


class Known(msgspec.Struct):
    """A sale as Postgres has it after its last change there."""

    epoch: int
    version: int
    sale: SaleChanged


class Listed(msgspec.Struct):
    """One sale of the list."""

    sale_id: str
    epoch: int
    version: int
    state: str


class Archived(msgspec.Struct):
    """What Postgres has of an archived sale: the last counts that Redis told, and the units sold by sku."""

    sale_id: str
    epoch: int
    version: int
    sale: SaleChanged
    counts: dict[str, int]
    sold: dict[str, int]


class Order(msgspec.Struct):
    """The verdict of one order."""

    verdict: str
    units: tuple[int, ...]
    slots: tuple[int, ...]
    epoch: int | None
    number: int | None


class Ended(msgspec.Struct):
    """A ticket that ended; ``order`` where it came to one, ``readmitted_as`` the ticket its buyer was given for it."""

    ticket_id: str
    outcome: str
    sku: str
    buyer_id: str
    quantity: int
    arrival: int | None
    reason: str
    at_ms: int
    order: Order | None
    readmitted_as: str | None = None

    @property
    def sold(self) -> Order | None:
        """What was sold, if anything."""
        return self.order if self.order is not None and self.order.verdict == "confirmed" else None


class _Page(msgspec.Struct):
    next: str | None


class _Sales(_Page):
    sales: list[Listed]


class _ArchivedSales(_Page):
    sales: list[Archived]


class _Tickets(_Page):
    tickets: list[Ended]


class _Epoch(msgspec.Struct):
    epoch: int


class _Problem(msgspec.Struct):
    code: str = ""


Page = TypeVar("Page", bound=_Page)


class Records:
    """A client of the order service. All raise ``UnavailableError`` when it is away or answers nonsense."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url.rstrip("/")

    async def sales(self) -> AsyncIterator[Listed]:
        """The sales that are not closed, or not for long."""
        async for page in self._pages("/internal/sales", _Sales):
            for each in page.sales:
                yield each

    async def archived(self) -> AsyncIterator[list[Archived]]:
        """The archived sales, a page at a time."""
        async for page in self._pages("/internal/archived", _ArchivedSales, limit=ARCHIVED_PAGE):
            yield page.sales

    async def known(self, sale_id: str) -> Known | None:
        """The sale; nothing where Postgres never heard of it."""
        return await self._ask("GET", f"/internal/sales/{sale_id}/definition", Known)

    async def raise_epoch(self, sale_id: str, epoch: int) -> int | None:
        """The epoch after this one, from now on the sale's; nothing if the sale has another already (D2, V7)."""
        answer = await self._ask("POST", f"/internal/sales/{sale_id}/epoch", _Epoch, json={"epoch": epoch})
        return None if answer is None else answer.epoch

    async def ended(self, sale_id: str) -> AsyncIterator[Ended]:
        """The tickets of a sale that ended, by id; a page at a time, so those that end meanwhile may be missed."""
        async for page in self._pages(f"/internal/sales/{sale_id}/tickets", _Tickets):
            for each in page.tickets:
                yield each

    async def _pages(self, path: str, kind: type[Page], *, limit: int = PAGE) -> AsyncIterator[Page]:
        """A list from its beginning; that of an unknown sale has no pages."""
        params = {"limit": str(limit)}
        while (page := await self._ask("GET", path, kind, params=params)) is not None:
            yield page
            if page.next is None:
                return
            params["cursor"] = page.next

    async def _ask(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        params: Mapping[str, str] | None = None,
        json: Mapping[str, Any] | None = None,
    ) -> T | None:
        """The answer; nothing for an unknown sale, and for an epoch that moved."""
        try:
            async with self._session.request(
                method, self._url + path, params=params, json=json, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
            ) as answer:
                body = bytearray()
                async for part in answer.content.iter_chunked(65_536):
                    body += part
                    if len(body) > MOST_BYTES:
                        raise UnavailableError("the order service's answer is too large")
                if answer.status == _OK:
                    return msgspec.json.decode(body, type=kind)
                if answer.content_type == _PROBLEM and msgspec.json.decode(body, type=_Problem).code in _NOTHING:
                    return None
                hint = ": Postgres may be away" if answer.status == _AWAY else ", which it never should: is it one?"
                raise UnavailableError(f"the order service at {self._url} answered {answer.status}{hint}")
        # An answer may be nested too deep, and text that is no UTF-8 is a plain ValueError.
        except (aiohttp.ClientError, OSError, ValueError, RecursionError) as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(f"the order service at {self._url} cannot be asked: {why}") from error
