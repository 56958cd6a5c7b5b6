"""What operators do to sales: each call's rules, apart from HTTP.

Everything is absolute and safe to repeat. What has to be in Postgres before it is answered (opening, stock) is waited
for, for a bounded time; an answer that comes too late is "not acknowledged", and the same call again goes on waiting.
"""

import asyncio
import time
import unicodedata
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET

from fairline import clock
from fairline.errors import FencedError
from fairline.sale import SaleDefinition
from fairline.states import SaleState
from fairline.store.room import Room
from fairline.store.sales import Action, Sales, fields_of, view_of
from gateway.bodies import invalid
from gateway.problems import Problem
from gateway.schemas import (
    OperatorItem,
    OperatorSale,
    OperatorValidator,
    SaleList,
    SalePatch,
    SaleRow,
    StockAnswer,
    StockRequest,
)

POLL_S: Final = 0.05
_AT_A_TIME: Final = 8  # sales read for a list
_YEARS: Final = (2000, 2200)  # instants outside are typing errors, and some cannot be told in UTC
# Fields of a definition -> of the stored sale.
_STORED: Final = {
    "name": "name",
    "rate_per_s": "rate",
    "capacity": "capacity",
    "opens_at": "opens_at_ms",
    "ends_at": "ends_at_ms",
    "message": "message",
    "when_sold_out": "when_sold_out",
    "validator": "validator",
}


def check(definition: SaleDefinition) -> SaleDefinition:
    """The definition itself; raises ``Problem`` for what no single field's type can say."""
    fault = definition.fault()
    if fault:
        field, _, detail = fault.partition(": ")
        raise invalid(field, detail)
    for field in ("opens_at", "ends_at"):
        instant: datetime | None = getattr(definition, field)
        if instant is not None and not _YEARS[0] <= instant.year < _YEARS[1]:
            raise invalid(field, f"must be in the years {_YEARS[0]} to {_YEARS[1] - 1}")
    check_text("name", definition.name)
    check_text("message", definition.message or "")
    for at, item in enumerate(definition.items):
        check_text(f"items[{at}].name", item.name)
    return definition


def check_text(field: str, text: str) -> None:
    """Raise ``Problem`` for control characters: Postgres takes no NUL, and a terminal obeys some of the others."""
    if any(unicodedata.category(letter) == "Cc" and letter not in "\n\t" for letter in text):
        raise invalid(field, "must not have control characters")


class SaleDesk:
    """Sales, for their operators. Raises ``Problem``, ``FencedError``, ``UnavailableError``."""

    def __init__(self, room: Room, *, acknowledge_s: float) -> None:
        self._room = room
        self._sales = Sales(room)
        self._acknowledge_s = acknowledge_s

    async def create(self, definition: SaleDefinition) -> bool:
        """Whether it is new; an identical one there already is as good. Raises 409 ``sale_exists`` for another."""
        check(definition)
        over = definition.ends_at is not None and clock.to_ms(definition.ends_at) <= clock.now_ms()
        if over and await self._sales.get(definition.sale_id) is None:  # it would end at once, for good
            raise invalid("ends_at", "has passed already")
        word = await self._sales.create(definition)
        if word == "CREATED":
            return True
        there = await self._sales.get(definition.sale_id)
        if there is None:
            raise FencedError
        if fields_of(there.definition) != fields_of(definition) or there.definition.items != definition.items:
            raise Problem("sale_exists")
        return False

    async def show(self, sale_id: str) -> OperatorSale:
        """The sale as it is now, not as the board has it."""
        look = await self._room.look(sale_id)
        named = await self._room.named_skus(sale_id)
        if look is None or named is None:
            raise Problem("unknown_sale")
        view = view_of(look, named)
        sale = view.definition
        return OperatorSale(
            sale_id=sale_id,
            name=sale.name,
            state=view.state,
            items=tuple(
                OperatorItem(
                    sku=item.sku,
                    name=item.name,
                    stock=row.stock,
                    version=row.version,
                    free=row.free,
                    outlook=row.outlook,
                    waiting=row.waiting,
                    served=row.served,
                )
                for item, row in zip(sale.items, look.rows, strict=True)
            ),
            per_buyer_limit=sale.per_buyer_limit,
            rate_per_s=sale.rate_per_s,
            capacity=sale.capacity,
            opens_at=sale.opens_at,
            ends_at=sale.ends_at,
            message=sale.message,
            when_sold_out=sale.when_sold_out,
            validator=OperatorValidator(**msgspec.structs.asdict(sale.validator)),
            epoch=view.epoch,
            version=view.version,
            acknowledged=view.acked >= view.version,
            server_time=clock.at(look.now_ms),
        )

    async def list(self, *, after: str, limit: int) -> SaleList:
        """A page of sales; those that are halted are ``recovering`` and have no name."""
        ids = [sale_id for sale_id in await self._room.sale_ids() if sale_id > after]
        rows: list[SaleRow] = []
        page = ids[:limit]
        for at in range(0, len(page), _AT_A_TIME):
            found = await asyncio.gather(*(self._row(sale_id) for sale_id in page[at : at + _AT_A_TIME]))
            rows.extend(row for row in found if row is not None)
        return SaleList(sales=tuple(rows), next=page[-1] if len(ids) > limit else None)

    async def _row(self, sale_id: str) -> SaleRow | None:
        try:
            look = await self._room.look(sale_id)
        except FencedError:
            return SaleRow(sale_id=sale_id, name=None, state=SaleState.RECOVERING, waiting=None)
        if look is None:  # registered, and the gateway died before it was written
            return None
        return SaleRow(
            sale_id=sale_id,
            name=look.meta["name"],
            state=SaleState(look.meta["state"]),
            waiting=sum(row.waiting for row in look.rows),
        )

    async def patch(self, sale_id: str, patch: SalePatch) -> None:
        """Set what the patch names; raises 409 ``sale_closed`` after the end."""
        there = await self._sales.get(sale_id)
        if there is None:
            raise Problem("unknown_sale")
        check_text("reason", patch.reason)
        changes: dict[str, Any] = {name: value for name in _STORED if (value := getattr(patch, name)) is not UNSET}
        wanted = fields_of(check(msgspec.structs.replace(there.definition, **changes)))
        fields = {_STORED[name]: wanted[_STORED[name]] for name in changes}
        reply = await self._sales.patch(sale_id, fields, patch.reason) if fields else None
        if reply is not None and reply.word == "ILLEGAL":
            raise Problem("sale_closed", state=reply.state)

    async def act(self, sale_id: str, action: Action, reason: str) -> bool:
        """Whether it changed anything. ``open`` waits for Postgres to know the sale (O4)."""
        check_text("reason", reason)

        async def acted() -> bool | None:
            reply = await self._sales.change(sale_id, action, reason)
            if reply is None:
                raise Problem("unknown_sale")
            if reply.word == "ILLEGAL":
                raise Problem("illegal_move", f"A sale that is {reply.state} cannot {action}.", state=reply.state)
            return None if reply.word == "NOT_ACKNOWLEDGED" else reply.word == "CHANGED"

        return await self._until_acknowledged(acted)

    async def set_stock(self, sale_id: str, sku: str, wanted: StockRequest) -> StockAnswer:
        """Set it (U3), and wait until Postgres has it; raises ``Problem`` with the number that is in the way."""
        check_text("reason", wanted.reason)
        reply = await self._sales.set_stock(
            sale_id, sku, stock=wanted.stock, version=wanted.version, reason=wanted.reason
        )
        if reply is None:
            raise Problem("unknown_sale" if await self._room.skus(sale_id) is None else "unknown_sku")
        if reply.word == "STALE":
            raise Problem("stale_version", version=reply.number)
        if reply.word == "TOO_LOW":
            raise Problem("stock_in_use", f"The lowest stock now is {reply.number}.", lowest=reply.number)
        if reply.word == "ENDED":
            raise Problem("sale_closed")
        target = reply.number

        async def known() -> bool | None:
            return True if await self._sales.acked(sale_id) >= target else None

        await self._until_acknowledged(known)
        return StockAnswer(sale_id=sale_id, sku=sku, stock=wanted.stock, version=wanted.version)

    async def _until_acknowledged(self, ask: Callable[[], Awaitable[bool | None]]) -> bool:
        deadline = time.monotonic() + self._acknowledge_s
        while (found := await ask()) is None:
            if time.monotonic() >= deadline:
                raise Problem("not_acknowledged")
            await asyncio.sleep(POLL_S)
        return found


NOT_CHANGEABLE: Final = frozenset({"sale_id", "items", "per_buyer_limit", "state", "epoch", "version"})
