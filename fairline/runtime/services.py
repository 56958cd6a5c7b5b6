"""Loops that a process is made of, and how they start and stop.

A process owns a few services. Each runs until ``stopping`` is set, then finishes what is in hand. What is not done
after ``drain_s`` is cancelled. The first one to fail stops the others, and the process exits non-zero.

Who is sent work by a balancer lingers first: it says that it leaves, and serves on until nobody sends it anything more.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from fairline.runtime import logs
from fairline.runtime.retry import spread

BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
CANCEL_AGAIN_S: Final = 0.05
IDLE_GROWTH: Final = 1.25  # some ten rests from 25 ms to a quarter of a second


class Service(Protocol):
    """Something that runs until it is asked to stop. Stopping twice, or before it started, is fine."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until ``stopping`` is set; return when what was in hand is done."""


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Sleep, but wake at once when the process is stopping."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()


async def loop(
    run_once: Callable[[], Awaitable[int]],
    stopping: asyncio.Event,
    *,
    idle_s: float,
    longest_idle_s: float = 0.0,
    later: tuple[type[Exception], ...] = (),
    name: str = "",
) -> None:
    """Call ``run_once`` until stopping; rest ``idle_s`` when it moved nothing, back off to 2 s on ``later`` errors.

    With ``longest_idle_s`` the rest grows up to that by a quarter each time nothing moves: quick while there is work,
    and cheap while there is none.
    """
    failures = 0
    rest_s = idle_s
    while not stopping.is_set():
        try:
            moved = await run_once()
        except later as error:
            if failures == 0:
                logs.get(__name__).warning("waiting", loop=name, error=repr(error))
            await pause(stopping, spread(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]))
            failures += 1
            continue
        if failures:
            logs.get(__name__).info("going on", loop=name, after_failures=failures)
            failures = 0
        if moved == 0:
            await pause(stopping, rest_s)
            rest_s = max(idle_s, min(longest_idle_s, rest_s * IDLE_GROWTH))
        else:
            rest_s = idle_s


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait for their end; what they raise is dropped.

    More than once if need be: ``asyncio.wait_for`` of Python 3.11, which the Redis client awaits in every command,
    loses a cancellation that comes in the turn in which its answer comes. Cancelled itself, and so by its own rule more
    than once, it still waits for them first: nobody else would.
    """
    pending = {task for task in tasks if not task.done()}
    interrupted: asyncio.CancelledError | None = None
    again_at = 0.0
    while pending:
        if (now := time.monotonic()) >= again_at:
            again_at = now + CANCEL_AGAIN_S
            for task in pending:
                task.cancel()
        try:
            await asyncio.wait(pending, timeout=max(0.0, again_at - now))
        except asyncio.CancelledError as error:
            interrupted = error
        pending = {task for task in pending if not task.done()}
    for task in tasks:
        if not task.cancelled():
            task.exception()  # or asyncio would complain that nobody asked
    if interrupted is not None:
        raise interrupted


class Endless:
    """Work that never ends by itself, as a service: it is cancelled when the process stops, so it must bear that."""

    def __init__(self, work: Callable[[], Coroutine[None, None, None]], *, name: str) -> None:
        self._work = work
        self._name = name

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until stopping; raises what the work raised."""
        working = asyncio.create_task(self._work(), name=self._name)
        stop = asyncio.create_task(stopping.wait(), name="stopping")
        try:
            await asyncio.wait({working, stop}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            stop.cancel()
            await cancelled(working)


async def run(
    services: Sequence[Service],
    *,
    drain_s: float,
    stopping: asyncio.Event | None = None,
    linger_s: float = 0.0,
    leaving: Callable[[], None] = lambda: None,
) -> None:
    """Run them all until SIGTERM or SIGINT (or ``stopping``); raises the error of the first that failed.

    At a signal ``leaving`` is called, and all goes on for ``linger_s``; a second signal ends that wait.
    """
    stopping, asked = stopping or asyncio.Event(), asyncio.Event()
    signals = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signals.add_signal_handler(number, lambda: stopping.set() if asked.is_set() else asked.set())
    lingering = asyncio.create_task(_linger(asked, stopping, linger_s, leaving), name="lingering")
    tasks = [asyncio.create_task(service.run(stopping), name=type(service).__name__) for service in services]
    stop = asyncio.create_task(stopping.wait(), name="stopping")
    try:
        await asyncio.wait({*tasks, stop}, return_when=asyncio.FIRST_COMPLETED)
        stopping.set()
        _, late = await asyncio.wait(tasks, timeout=drain_s)
        for task in late:
            logs.get(__name__).warning("cancelled", service=task.get_name(), drain_s=drain_s)
        await cancelled(*late)
        results = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        stop.cancel()
        lingering.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            signals.remove_signal_handler(number)
        await cancelled(*tasks)  # where this call is itself cancelled, nothing may go on without its owner
    for result in results:
        if isinstance(result, Exception):
            raise result


async def _linger(asked: asyncio.Event, stopping: asyncio.Event, linger_s: float, leaving: Callable[[], None]) -> None:
    await asked.wait()
    leaving()
    await pause(stopping, linger_s)
    stopping.set()
