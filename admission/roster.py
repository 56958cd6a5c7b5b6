"""Which sales this process serves: all that are registered and not closed, each at a desk of its own (O4)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from admission.desk import Desk
from fairline.errors import UnavailableError
from fairline.runtime import logs
from fairline.runtime.services import cancelled, loop
from fairline.store.room import Room

log = logs.get(__name__)

LOOK_S: Final = 0.25
AGAIN_S: Final = 5.0  # until a sale that was closed, and is not any more since it was rebuilt, is served again
MAX_SALES: Final = 150  # one where nothing happens costs 27 calls a second, 0.6 % of a core: so many fill one


class Roster:
    """Opens a desk for each registered sale. A desk that fails stops the process."""

    def __init__(
        self,
        room: Room,
        open_desk: Callable[[str], Awaitable[Desk | None]],
        forget: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._room = room
        self._open_desk = open_desk
        self._forget = forget
        self._desks: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._full = False
        self._asked_at = float("-inf")

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopping; then wait for the desks to finish what is in hand."""
        self._stopping = stopping
        try:
            await loop(self.run_once, stopping, idle_s=LOOK_S, later=(UnavailableError,), name="roster")
            await asyncio.gather(*self._desks.values())
        finally:
            await cancelled(*self._desks.values())

    async def run_once(self) -> int:
        """Open what is new; how many. A closed sale keeps its finished task as a mark while it is registered."""
        for sale_id, task in self._desks.items():
            if task.done() and not task.cancelled() and task.exception():
                log.error("desk failed", sale=sale_id)
                task.result()
        registered = await self._room.sale_ids()
        for sale_id in {each for each, task in self._desks.items() if task.done()} - set(registered):
            del self._desks[sale_id]
            self._forget(sale_id)
        await self._take_back()
        opened = 0
        for sale_id in registered:
            if sale_id in self._desks:
                continue
            if self._is_full():
                break
            desk = await self._open_desk(sale_id)
            if desk is None:  # registered, not yet written
                continue
            self._desks[sale_id] = asyncio.create_task(desk.run(self._stopping), name=f"desk {sale_id}")
            opened += 1
        return opened

    async def _take_back(self) -> None:
        """Forget that a sale was closed where Redis, which was rebuilt since, says otherwise."""
        if time.monotonic() - self._asked_at < AGAIN_S:
            return
        for sale_id in [sale_id for sale_id, task in self._desks.items() if task.done()]:
            if not await self._room.is_closed(sale_id):
                del self._desks[sale_id]
        self._asked_at = time.monotonic()

    def _is_full(self) -> bool:
        full = sum(not task.done() for task in self._desks.values()) >= MAX_SALES
        if full and not self._full:
            log.error("too many sales at once; the others wait", most=MAX_SALES)
        self._full = full
        return full
