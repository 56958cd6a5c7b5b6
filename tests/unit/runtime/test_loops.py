"""The loop of every service, and what becomes of tasks when their owner is cancelled."""

import asyncio
from collections.abc import Callable

import pytest

from fairline.runtime import services
from fairline.runtime.services import cancelled, loop, run


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the loops of a test rested; none of it is waited for."""
    found: list[float] = []

    async def pause(_: asyncio.Event, seconds: float) -> None:
        found.append(round(seconds, 3))

    monkeypatch.setattr(services, "pause", pause)
    return found


def _moves(stopping: asyncio.Event, *numbers: int | type[Exception]) -> Callable[[], object]:
    left = list(numbers)

    async def run_once() -> int:
        now = left.pop(0)
        if not left:
            stopping.set()
        if isinstance(now, int):
            return now
        raise now

    return run_once


async def test_rests_grow_while_nothing_moves_and_are_short_again_at_once(rests: list[float]) -> None:
    stopping = asyncio.Event()
    work = _moves(stopping, 0, 0, 0, 0, 5, 0, 0)
    await loop(work, stopping, idle_s=0.1, longest_idle_s=0.15)  # type: ignore[arg-type]
    assert rests == [0.1, 0.125, 0.15, 0.15, 0.1, 0.125]


async def test_rests_stay_the_same_where_they_may_not_grow(rests: list[float]) -> None:
    stopping = asyncio.Event()
    await loop(_moves(stopping, 0, 0, 0), stopping, idle_s=0.1)  # type: ignore[arg-type]
    assert rests == [0.1, 0.1, 0.1]


async def test_trouble_backs_off_to_two_seconds_and_is_over_at_once(rests: list[float]) -> None:
    stopping = asyncio.Event()
    work = _moves(stopping, *[OSError] * 7, 1, OSError, 1)
    await loop(work, stopping, idle_s=0.1, later=(OSError,))  # type: ignore[arg-type]
    longest = (0.1, 0.2, 0.5, 1.0, 2.0, 2.0, 2.0, 0.1)
    assert all(most / 2 <= rest <= most for rest, most in zip(rests, longest, strict=True))


async def test_an_error_that_is_not_later_ends_the_loop() -> None:
    stopping = asyncio.Event()
    with pytest.raises(KeyError):
        await loop(_moves(stopping, KeyError, 1), stopping, idle_s=0.1, later=(OSError,))  # type: ignore[arg-type]


async def test_whoever_waits_for_cancelled_tasks_sees_them_end_though_it_is_cancelled_again() -> None:
    tidied = asyncio.Event()

    async def child() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.wait({asyncio.create_task(asyncio.sleep(0.01))})
            tidied.set()

    async def parent() -> None:
        task = asyncio.create_task(child())
        try:
            await asyncio.Event().wait()
        finally:
            await cancelled(task)

    owner = asyncio.create_task(parent())
    await asyncio.wait({owner}, timeout=0.01)
    for _ in range(3):
        owner.cancel()
        await asyncio.sleep(0)
    await asyncio.wait({owner})
    assert owner.cancelled()
    assert tidied.is_set()


async def test_a_task_that_misses_a_cancellation_is_cancelled_again() -> None:
    async def deaf_once() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:  # as wait_for of Python 3.11 may do
            await asyncio.Event().wait()

    task = asyncio.create_task(deaf_once())
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await cancelled(task)
    assert task.cancelled()


async def test_what_a_cancelled_task_raised_is_dropped() -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise LookupError("on the way out")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await cancelled(task)
    assert isinstance(task.exception(), LookupError)


async def test_a_process_that_is_cancelled_leaves_no_service_behind() -> None:
    ended: list[str] = []

    class Endless:
        async def run(self, stopping: asyncio.Event) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("service")

    process = asyncio.create_task(run([Endless(), Endless()], drain_s=60))
    await asyncio.wait({process}, timeout=0.01)
    await cancelled(process)
    assert ended == ["service"] * 2
