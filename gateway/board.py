"""The board: how each sale stands, read from Redis at most once a frame (100 ms) however many ask.

Owns a bounded cache. What is on it is at most ``frame_s`` old, counted from before it was asked for, so that a
refusal by it ("sold out") is never older than one frame (E3), or than Redis's answer where that takes longer: one
question per sale is under way at a time, and who comes meanwhile waits for it. Sales that Redis does not know are
remembered for a moment too, in a list of their own, so that they push no real sale out.
"""

import asyncio
import re
import time
from collections import OrderedDict
from functools import cached_property
from hashlib import blake2b
from typing import Final, TypeVar, get_args

import msgspec

from fairline import clock, ids
from fairline.errors import OverloadedError
from fairline.states import SaleState
from fairline.store.replies import LookReply, LookRow
from fairline.store.room import Room
from gateway.schemas import PublicItem, PublicSale

V = TypeVar("V")

UNKNOWN_S: Final = 0.25  # a sale created elsewhere is served this much later at most
MOST_UNKNOWN: Final = 10_000
# Sales never seen here that are asked for at a time: random ids must not use up the connections, and keep no buyer of a
# sale that is known from being answered.
MOST_STRANGERS: Final = 16

_SALE_ID: Final = re.compile(get_args(ids.SaleId)[1].pattern)


def is_sale_id(text: str) -> bool:
    """Whether a sale can be called so at all."""
    return _SALE_ID.match(text) is not None


class Seen:
    """One sale as it stood at an instant."""

    def __init__(self, sale_id: str, look: LookReply, named: tuple[tuple[str, str], ...], at: float) -> None:
        self.sale_id = sale_id
        self.at = at  # monotonic, before Redis was asked
        self.meta = look.meta
        self.state = SaleState(look.meta["state"])
        self.rate = float(look.meta["rate"]) if look.meta["rate"] else None
        self.opens_at_ms = int(look.meta["opens_at_ms"] or 0)
        self.now_ms = look.now_ms
        self.named = named
        self.rows: dict[str, LookRow] = {sku: row for (sku, _), row in zip(named, look.rows, strict=True)}
        self.closes_line = look.meta["when_sold_out"] == "close_line"
        self.waiting = sum(row.waiting for row in look.rows)

    def refusal(self, sku: str, *, keyed: bool, max_waiting: int) -> str | None:
        """The code of a refusal that needs no question to Redis, if there is one (rules E2, E3).

        Only where join.lua could say nothing else, except that one who has bought is told "sold out", and one who waits
        already "line full". A request with an Idempotency-Key may have made a ticket before and then must get it, so
        after the opening it goes to Redis.
        """
        if self.state is SaleState.DRAFT:
            return "not_open"
        if keyed:
            return None
        if self.state is SaleState.CLOSED:
            return "sale_closed"
        row = self.rows[sku]
        if self.state is not SaleState.ENDED and self.closes_line and row.outlook == "sold_out" and not row.waiting:
            return "sold_out"
        if self.state is not SaleState.ENDED and self.waiting >= max_waiting:
            return "line_full"
        return None

    def eta_s(self, sku: str, ahead: int) -> float | None:
        """Seconds until that many of this sku's line have gone, or nothing where nobody can say.

        The rate is the sale's, and the lines of its skus are merged by arrival: while this line moves by one, all of
        them move by their share.
        """
        if self.rate is None or self.state is not SaleState.OPEN:
            return None
        own = self.rows[sku].waiting
        share = max(1.0, self.waiting / own) if own else 1.0
        return round(ahead * share / self.rate, 1)

    @cached_property
    def public(self) -> PublicSale:
        """What everybody may read."""
        ends_at_ms = self.meta["ends_at_ms"]
        return PublicSale(
            sale_id=self.sale_id,
            name=self.meta["name"],
            state=self.state,
            message=self.meta["message"] or None,
            per_buyer_limit=int(self.meta["per_buyer_limit"]),
            rate_per_s=self.rate,
            epoch=int(self.meta["epoch"]),
            opens_at=clock.at(self.opens_at_ms) if self.opens_at_ms else None,
            ends_at=clock.at(int(ends_at_ms)) if ends_at_ms else None,
            items=tuple(
                PublicItem(
                    sku=sku,
                    name=name,
                    outlook=self.rows[sku].outlook,
                    served=self.rows[sku].served,
                    waiting=self.rows[sku].waiting,
                    older=self.rows[sku].older,
                )
                for sku, name in self.named
            ),
            server_time=clock.at(self.now_ms),
        )

    @cached_property
    def body(self) -> bytes:
        """``public`` as JSON, encoded once a frame."""
        return msgspec.json.encode(self.public)

    @cached_property
    def etag(self) -> str:
        """Weak: the same as long as nothing but the time of the server has changed."""
        timeless = msgspec.structs.replace(self.public, server_time=clock.at(0))
        return f'W/"{blake2b(msgspec.json.encode(timeless), digest_size=9).hexdigest()}"'


class Board:
    """All sales that somebody asked for lately."""

    def __init__(self, room: Room, *, frame_s: float, most_sales: int) -> None:
        self._room = room
        self._frame_s = frame_s
        self._most_sales = most_sales
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Seen | None]] = {}
        self._strangers: set[str] = set()  # those of them that were not known when they were asked for

    def fresh(self, sale_id: str) -> Seen | None:
        """The sale if it is on the board and young enough; costs nothing."""
        seen = self._seen.get(sale_id)
        return seen if seen is not None and time.monotonic() - seen.at < self._frame_s else None

    def knows(self, sale_id: str) -> bool:
        """Whether there is such a sale, as far as this gateway has heard; costs nothing."""
        return sale_id in self._seen

    async def sale(self, sale_id: str) -> Seen | None:
        """The sale, at most a frame old; nothing for one that Redis does not know.

        Raises ``FencedError``, ``UnavailableError``, or ``OverloadedError`` for a sale never seen here when too many of
        those are being asked for.
        """
        seen = self.fresh(sale_id)
        if seen is not None:
            return seen
        missed = self._unknown.get(sale_id)
        if not is_sale_id(sale_id):
            return None
        if missed is not None and time.monotonic() - missed < UNKNOWN_S:
            return None
        task = self._asking.get(sale_id)
        if task is None:
            if not self.knows(sale_id):
                if len(self._strangers) >= MOST_STRANGERS:
                    raise OverloadedError
                self._strangers.add(sale_id)
            task = asyncio.create_task(self._ask(sale_id), name=f"look at {sale_id}")
            self._asking[sale_id] = task
            task.add_done_callback(_heard)
        return await asyncio.shield(task)

    async def _ask(self, sale_id: str) -> Seen | None:
        try:
            at = time.monotonic()
            look = await self._room.look(sale_id)
            named = await self._room.named_skus(sale_id)
            if look is None or named is None:
                _keep(self._unknown, sale_id, at, MOST_UNKNOWN)
                return None
            seen = Seen(sale_id, look, named, at)
            _keep(self._seen, sale_id, seen, self._most_sales)
            return seen
        finally:
            del self._asking[sale_id]
            self._strangers.discard(sale_id)


def _keep(into: OrderedDict[str, V], name: str, value: V, most: int) -> None:
    into[name] = value
    into.move_to_end(name)
    if len(into) > most:
        into.popitem(last=False)


def _heard(task: asyncio.Task[Seen | None]) -> None:
    """Take note of an error, so that asyncio does not report one whose last waiter has gone."""
    if not task.cancelled():
        task.exception()
