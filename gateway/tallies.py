"""Counting what was answered without asking Redis, and adding it to the sale's totals a moment later.

A field is ``SKU:asked`` or ``SKU:refused:code``, as join.lua names them; where the sku is unknown it is the empty one.
At most ``FLUSH_S`` old, so that statistics are never older than 100 ms. A flush whose answer was lost is not repeated:
these totals count at most once, and nothing but statistics reads them.
"""

import asyncio
from collections import Counter
from typing import Final

from fairline.errors import FencedError, UnavailableError
from fairline.runtime import logs
from fairline.runtime.services import pause
from fairline.store.room import Room

FLUSH_S: Final = 0.05


class Tallies:
    """The refusals of this gateway that Redis has not heard of, by sale. A service."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._counted: dict[str, Counter[str]] = {}  # only sales of the board come here: bounded by it

    def refused(self, sale_id: str, sku: str, code: str) -> None:
        """One join was asked for and refused."""
        counted = self._counted.get(sale_id)
        if counted is None:
            counted = self._counted[sale_id] = Counter()
        counted[f"{sku}:asked"] += 1
        counted[f"{sku}:refused:{code}"] += 1

    async def flush(self, sale_id: str) -> None:
        """Add what was counted for one sale; never raises for a Redis that is away or rebuilt."""
        counted = self._counted.pop(sale_id, None)
        if counted:
            try:
                await self._room.tally(sale_id, dict(counted))
            except (UnavailableError, FencedError) as error:
                logs.get(__name__).warning(
                    "refusals not counted", sale=sale_id, refusals=counted.total() // 2, error=error.code
                )

    async def run_once(self) -> int:
        """Flush all."""
        sales = list(self._counted)
        for sale_id in sales:
            await self.flush(sale_id)
        return len(sales)

    async def run(self, stopping: asyncio.Event) -> None:
        """Flush until stopping, and once more then."""
        while not stopping.is_set():
            await self.run_once()
            await pause(stopping, FLUSH_S)
        await self.run_once()
