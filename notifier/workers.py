"""One task for each kind of work and each sale that has an audience, for as long as it has one.

Owns those tasks. The first to fail stops the process; the last client's leaving, and the end of the process, cancel
them. That is safe at any point, because they own nothing and write nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from fairline.runtime.services import cancelled
from notifier.hub import Audience, Hub

Work = Callable[[Audience], Coroutine[None, None, None]]


class Workers:
    """A service. ``works`` never end by themselves."""

    def __init__(self, hub: Hub, works: Sequence[Work]) -> None:
        self._works = works
        self._tasks: dict[Audience, list[asyncio.Task[None]]] = {}
        self._failed: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()  # as long as there are tasks at most
        self._ending: set[asyncio.Task[None]] = set()
        hub.watch(first=self._start, last=self._end)

    async def run(self, stopping: asyncio.Event) -> None:
        """Wait for the first failure, or for the end of the process."""
        stop = asyncio.create_task(stopping.wait(), name="stopping")
        failed = asyncio.create_task(self._failed.get(), name="failed")
        try:
            await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                failed.result().result()
        finally:
            stop.cancel()
            failed.cancel()
            await cancelled(*(task for tasks in self._tasks.values() for task in tasks))
            await asyncio.gather(*self._ending)

    def _start(self, audience: Audience) -> None:
        self._tasks[audience] = [
            asyncio.create_task(work(audience), name=f"{work.__qualname__} {audience.sale_id}") for work in self._works
        ]
        for task in self._tasks[audience]:
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._failed.put_nowait(task)

    def _end(self, audience: Audience) -> None:
        ending = asyncio.create_task(cancelled(*self._tasks.pop(audience, [])), name=f"end {audience.sale_id}")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
