"""Work that never ends by itself ends when it is asked to."""

import asyncio

import pytest

from fairline.runtime.services import Endless, cancelled
from tests.support.stack import eventually


class Stubborn:
    """Loses the first cancellation, as ``asyncio.wait_for`` of Python 3.11 may."""

    def __init__(self) -> None:
        self.lost = 0

    async def work(self) -> None:
        while self.lost < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.lost += 1
        await asyncio.Event().wait()


async def test_a_lost_cancellation_is_repeated() -> None:
    stubborn = Stubborn()
    task = asyncio.create_task(stubborn.work())
    await asyncio.sleep(0)
    await cancelled(task)
    assert task.cancelled()
    assert stubborn.lost == 2


async def test_endless_work_ends_with_the_process() -> None:
    stubborn, stopping = Stubborn(), asyncio.Event()
    running = asyncio.create_task(Endless(stubborn.work, name="stubborn").run(stopping))
    stopping.set()
    await running
    assert stubborn.lost in {0, 2}  # 0 where it was cancelled before its first step


async def test_a_failure_of_endless_work_is_raised() -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Endless(fails, name="fails").run(asyncio.Event())


async def test_tasks_that_have_ended_are_left_alone() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await eventually(task.done)
    await cancelled(task)
    assert not task.cancelled()
