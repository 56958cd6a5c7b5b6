"""Which sales this process serves: all that are registered and not closed, each at a desk of its own (O4)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from admission.desk import Desk
from fairline.errors import UnavailableError
from fairline.runtime import logs
from fairline.runtime.services import loop
from fairline.store.room import Room

log = logs.get(__name__)

LOOK_S: Final = 0.25
MAX_SALES: Final = 500  # each costs a few scripts a second even when nothing happens


class Roster:
    """Opens a desk for each registered sale. A desk that fails stops the process."""

    def __init__(self, room: Room, open_desk: Callable[[str], Awaitable[Desk | None]]) -> None:
        self._room = room
        self._open_desk = open_desk
        self._desks: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()

    async def run(self, stopping: asyncio.Event) -> None:
        """Until stopping; then wait for the desks to finish what is in hand."""
        self._stopping = stopping
        try:
            await loop(self.run_once, stopping, idle_s=LOOK_S, later=(UnavailableError,), name="roster")
            await asyncio.gather(*self._desks.values())
        finally:
            for task in self._desks.values():
                task.cancel()

    async def run_once(self) -> int:
        """Open what is new; how many. Closed sales keep their finished task as a mark."""
        for sale_id, task in self._desks.items():
            if task.done() and task.exception():
                log.error("desk failed", sale=sale_id)
                task.result()
        opened = 0
        for sale_id in await self._room.sale_ids():
            if sale_id in self._desks:
                continue
            if sum(not task.done() for task in self._desks.values()) >= MAX_SALES:
                log.error("too many sales at once; the others wait", most=MAX_SALES)
                break
            desk = await self._open_desk(sale_id)
            if desk is None:  # registered, not yet written
                continue
            self._desks[sale_id] = asyncio.create_task(desk.run(self._stopping), name=f"desk {sale_id}")
            opened += 1
        return opened
