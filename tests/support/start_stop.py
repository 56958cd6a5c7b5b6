"""The stress test that every service passes: ten workers start and stop it fifty times, at every wrong moment."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

from fairline.runtime.services import Service

WORKERS: Final = 10
TIMES: Final = 50
LONGEST_S: Final = 60.0  # far above what a stop takes; reached only by one that never ends


async def start_and_stop_often(make: Callable[[], Service], *, workers: int = WORKERS, times: int = TIMES) -> None:
    """Start and stop services made by ``make``; fails where one does not end, or leaves a task behind.

    Stopped before it starts, at once, after some turns of the loop, twice, and by being cancelled.
    """
    before = asyncio.all_tasks()
    for _ in range(times):
        async with asyncio.timeout(LONGEST_S):
            await asyncio.gather(*(_start_and_stop(make()) for _ in range(workers)))
    left = {task for task in asyncio.all_tasks() - before if not task.done()}
    assert left == set(), f"left behind: {left}"


async def _start_and_stop(service: Service) -> None:
    stopping = asyncio.Event()
    turns, how = random.randrange(6), random.choice(("before", "once", "twice", "cancelled"))
    if how == "before":
        stopping.set()
    running = asyncio.create_task(service.run(stopping))
    for _ in range(turns):
        await asyncio.sleep(0)
    if how == "cancelled":
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled() or running.exception() is None
        return
    stopping.set()
    if how == "twice":
        await asyncio.sleep(0)
        stopping.set()
    await running
