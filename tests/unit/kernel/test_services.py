"""fairline.runtime.services: how loops rest, back off and stop, and how a process of them ends."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable

import pytest

from fairline.runtime import services
from fairline.runtime.health import Health, HttpServer
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import Endless, Service, cancelled, loop, pause, run
from tests.support.stack import eventually
from tests.support.start_stop import start_and_stop_often

A_WHILE_S = 30.0  # longer than any test may take: whoever waits for it to pass fails


class Worker:
    """A service that does what it is told when it runs."""

    def __init__(self, work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        self._work = work
        self.ended = False

    async def run(self, stopping: asyncio.Event) -> None:
        try:
            await self._work(stopping)
        finally:
            self.ended = True


async def _until_stopped(stopping: asyncio.Event) -> None:
    await stopping.wait()


async def _break(stopping: asyncio.Event) -> None:
    raise OSError("broken")


async def _never_end(stopping: asyncio.Event) -> None:
    await asyncio.Event().wait()


async def test_a_pause_ends_at_once_when_the_process_stops() -> None:
    stopping = asyncio.Event()
    resting = asyncio.create_task(pause(stopping, A_WHILE_S))
    await asyncio.sleep(0)
    stopping.set()
    await asyncio.wait_for(resting, 5)


async def test_a_pause_ends_by_itself_and_takes_its_time() -> None:
    before = time.monotonic()
    await pause(asyncio.Event(), 0.02)
    assert time.monotonic() - before >= 0.019


async def test_a_loop_goes_on_at_once_while_something_moves_and_rests_when_nothing_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rests: list[float] = []
    stopping = asyncio.Event()
    moved = iter([5, 1, 0, 0, 0, 0, 0, 0, 3, 0])

    async def rest(_: asyncio.Event, seconds: float) -> None:
        rests.append(seconds)

    async def run_once() -> int:
        found = next(moved, None)
        if found is None:
            stopping.set()
            return 1
        return found

    monkeypatch.setattr(services, "pause", rest)
    await loop(run_once, stopping, idle_s=1.0, longest_idle_s=2.0)
    assert rests == [1.0, 1.25, 1.5625, 1.953125, 2.0, 2.0, 1.0], "longer and longer, and short again after work"


async def test_a_loop_backs_off_on_what_may_come_later_and_starts_anew_after_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rests: list[float] = []
    stopping = asyncio.Event()
    turns = iter([ConnectionError()] * 7 + [1, ConnectionError(), 1])

    async def rest(_: asyncio.Event, seconds: float) -> None:
        rests.append(seconds)

    async def run_once() -> int:
        turn = next(turns, None)
        if isinstance(turn, Exception):
            raise turn
        if turn is None:
            stopping.set()
        return 1

    monkeypatch.setattr(services, "pause", rest)
    await loop(run_once, stopping, idle_s=9, later=(ConnectionError,))
    longest = (0.1, 0.2, 0.5, 1.0, 2.0, 2.0, 2.0, 0.1)
    assert all(most / 2 <= rest <= most for rest, most in zip(rests, longest, strict=True))


async def test_a_loop_ends_on_any_other_error() -> None:
    async def run_once() -> int:
        raise LookupError("no such thing")

    with pytest.raises(LookupError):
        await loop(run_once, asyncio.Event(), idle_s=0, later=(ConnectionError,))


async def test_a_loop_finishes_what_is_in_hand_before_it_stops() -> None:
    stopping, begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event(), []

    async def run_once() -> int:
        begun.set()
        await go_on.wait()
        done.append(1)
        return 1

    running = asyncio.create_task(loop(run_once, stopping, idle_s=0))
    await begun.wait()
    stopping.set()
    await asyncio.sleep(0)
    assert not running.done()
    go_on.set()
    await running
    assert done == [1]


async def test_all_services_run_until_the_process_stops() -> None:
    stopping, workers = asyncio.Event(), [Worker(_until_stopped) for _ in range(3)]
    running = asyncio.create_task(run(workers, drain_s=A_WHILE_S, stopping=stopping))
    await asyncio.sleep(0)
    stopping.set()
    await running
    assert all(worker.ended for worker in workers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_process_and_the_handlers_are_taken_back(number: signal.Signals) -> None:
    worker = Worker(_until_stopped)
    before = signal.getsignal(number)
    running = asyncio.create_task(run([worker], drain_s=A_WHILE_S))
    await eventually(lambda: signal.getsignal(number) != before)
    os.kill(os.getpid(), number)
    await asyncio.wait_for(running, 5)
    assert worker.ended
    assert signal.getsignal(number) in {before, signal.SIG_DFL, signal.default_int_handler}


async def test_who_lingers_says_so_and_serves_on_until_the_time_is_over_or_a_second_signal_comes() -> None:
    stopping, leaving = asyncio.Event(), asyncio.Event()
    before = signal.getsignal(signal.SIGTERM)
    worker = Worker(_until_stopped)
    running = asyncio.create_task(run([worker], drain_s=A_WHILE_S, stopping=stopping, linger_s=60, leaving=leaving.set))
    await eventually(lambda: signal.getsignal(signal.SIGTERM) != before)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(leaving.wait(), 5)
    assert not stopping.is_set()
    assert not worker.ended
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(running, 5)
    assert worker.ended


async def test_the_first_service_to_fail_stops_the_others_and_its_error_is_raised() -> None:
    other = Worker(_until_stopped)
    with pytest.raises(OSError, match="broken"):
        await run([other, Worker(_break)], drain_s=A_WHILE_S)
    assert other.ended


async def test_who_does_not_stop_in_time_is_cancelled() -> None:
    stopping, slow = asyncio.Event(), Worker(_never_end)
    stopping.set()
    await asyncio.wait_for(run([slow], drain_s=0.01, stopping=stopping), 5)
    assert slow.ended


async def test_an_error_while_stopping_is_not_lost() -> None:
    async def break_at_the_end(stopping: asyncio.Event) -> None:
        await stopping.wait()
        raise OSError("late")

    stopping = asyncio.Event()
    stopping.set()
    with pytest.raises(OSError, match="late"):
        await run([Worker(break_at_the_end)], drain_s=A_WHILE_S, stopping=stopping)


async def test_a_process_that_is_cancelled_leaves_nobody_behind() -> None:
    worker = Worker(_never_end)
    running = asyncio.create_task(run([worker], drain_s=A_WHILE_S))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert worker.ended


def _looping() -> Service:
    async def run_once() -> int:
        await asyncio.sleep(0)
        return 0

    return Worker(lambda stopping: loop(run_once, stopping, idle_s=A_WHILE_S))


def _endless() -> Service:
    async def work() -> None:
        await asyncio.Event().wait()

    return Endless(work, name="work")


@pytest.mark.parametrize("make", [_looping, _endless])
async def test_ten_workers_start_and_stop_a_service_fifty_times(make: Callable[[], Service]) -> None:
    await start_and_stop_often(make)


async def test_an_http_server_can_be_started_and_stopped_at_any_moment() -> None:
    app = Health(Metrics(), {})
    await start_and_stop_often(lambda: HttpServer(app, host="127.0.0.1", port=0), workers=3, times=5)


async def test_the_stress_test_finds_a_service_that_leaves_a_task_behind() -> None:
    left: list[asyncio.Task[bool]] = []

    async def forget(stopping: asyncio.Event) -> None:
        left.append(asyncio.create_task(asyncio.Event().wait()))
        await stopping.wait()

    with pytest.raises(AssertionError, match="left behind"):
        await start_and_stop_often(lambda: Worker(forget), workers=2, times=1)
    for task in left:
        task.cancel()
    await asyncio.wait(left)


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    async def hard_of_hearing() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(hard_of_hearing())
    await asyncio.sleep(0)
    async with asyncio.timeout(A_WHILE_S):
        await cancelled(task)
    assert task.cancelled()


async def test_whoever_cancels_waits_for_the_end_though_cancelled_itself() -> None:
    go = asyncio.Event()

    async def slow_to_end() -> None:
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    task = asyncio.create_task(slow_to_end())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(cancelled(task))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert task.done()
