import asyncio

import pytest

from fairline.local.errors import StackError
from fairline.local.servers import at_once


async def test_who_is_told_to_end_is_told_once_and_ends_in_peace() -> None:
    """Else the child that it was about to stop would be left, with what that one had started."""
    began, stopped = asyncio.Event(), []

    async def slow_to_stop(name: str, turns: int) -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(turns):
                await asyncio.sleep(0)
            stopped.append(name)

    work = asyncio.create_task(at_once([slow_to_stop("first", 1), slow_to_stop("last", 20)]))
    await began.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert stopped == ["first", "last"]


async def test_the_first_failure_ends_the_others_and_is_told() -> None:
    ended = asyncio.Event()

    async def fails() -> None:
        raise StackError("no such luck")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(StackError, match="no such luck"):
        await at_once([waits(), fails()])
    assert ended.is_set()


async def test_nothing_at_once_is_done_at_once() -> None:
    await at_once([])
