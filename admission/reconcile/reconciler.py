"""Compares every sale with Postgres from time to time, and says what differs; mends nothing.

Runs in every admission process; a key that expires lets one of them compare a sale at a time, and what it finds lies in
Redis, so that all copies show the same metric. A process that dies while it compares costs one round.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from redis.asyncio import Redis

from admission.reconcile.comparison import Comparison, UnknownSaleError
from admission.reconcile.differences import KINDS, Difference
from fairline.clock import now_ms
from fairline.errors import FencedError, UnavailableError
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import loop
from fairline.store.client import answering
from fairline.store.keys import SaleKeys
from fairline.store.room import Room

log = logs.get(__name__)

LOOK_S: Final = 5.0  # how late a copy shows what another one found
SHOWN: Final = 5
KEPT: Final = 10  # rounds, for which the last result is shown if nobody compares any more


class Result(msgspec.Struct):
    """Of one comparison; ``at_ms`` when it began."""

    at_ms: int
    took_s: float
    kinds: dict[str, int]


class Reconciler:
    """``comparison_of`` makes the comparison of a sale; nothing for a sale that is not there."""

    def __init__(
        self,
        redis: Redis,
        room: Room,
        comparison_of: Callable[[str], Awaitable[Comparison | None]],
        metrics: Metrics,
        *,
        every_s: float,
    ) -> None:
        self._redis = redis
        self._room = room
        self._comparison_of = comparison_of
        self._metrics = metrics
        self._every_s = every_s

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopping."""
        idle_s = min(LOOK_S, self._every_s)
        await loop(self.run_once, stopping, idle_s=idle_s, later=(UnavailableError,), name="reconciler")

    async def run_once(self) -> int:
        """Compare the sales whose time has come; zero, so that the loop rests."""
        for sale_id in await self._room.sale_ids():
            try:
                if await self._is_mine(sale_id):
                    await self._compare(sale_id)
                await self._show(sale_id)
            except (FencedError, UnknownSaleError):
                continue  # halted, or not yet on its way to Postgres: nothing to compare
        return 0

    async def _is_mine(self, sale_id: str) -> bool:
        with answering():
            return bool(await self._redis.set(SaleKeys(sale_id).comparing, 1, nx=True, px=round(self._every_s * 1000)))

    async def _compare(self, sale_id: str) -> None:
        comparison = await self._comparison_of(sale_id)
        if comparison is None:
            return
        at_ms, began = now_ms(), time.monotonic()
        found = await comparison.differences()
        result = Result(at_ms, round(time.monotonic() - began, 3), Counter(each.kind for each in found))
        if found:
            log.warning(
                "a sale differs", sale=sale_id, kinds=result.kinds, first=[_shown(each) for each in found[:SHOWN]]
            )
        with answering():
            kept_ms = round(KEPT * self._every_s * 1000)
            await self._redis.set(SaleKeys(sale_id).compared, msgspec.json.encode(result), px=kept_ms)

    async def _show(self, sale_id: str) -> None:
        with answering():
            packed = await self._redis.get(SaleKeys(sale_id).compared)
        if packed is None:
            return
        result = msgspec.json.decode(packed, type=Result)
        self._metrics.compared_at.labels(sale_id).set(result.at_ms / 1000)
        for kind in KINDS:
            self._metrics.differences.labels(sale_id, kind).set(result.kinds.get(kind, 0))


def _shown(each: Difference) -> str:
    return f"{each.kind} {each.sku} {each.subject}: {each.redis}; {each.postgres}"
