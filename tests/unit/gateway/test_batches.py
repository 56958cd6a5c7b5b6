"""Gathering: one call a turn, bounded, each waiter its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from fairline.errors import OverloadedError, UnavailableError
from gateway.batches import Batcher
from tests.support.stack import PATIENCE_S, eventually

Numbers = Batcher[int, int]


class Server:
    """Doubles numbers, when it may."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.failures: list[Exception] = []

    async def __call__(self, sale_id: str, items: Sequence[int]) -> list[int]:
        self.calls.append((sale_id, list(items)))
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        return [2 * item for item in items]


def batcher(
    server: Server, *, most: int = 256, in_flight: int = 2, waiting: int = 100, deadline_s: float = 5
) -> Numbers:
    return Batcher(server, most=most, in_flight=in_flight, most_waiting=waiting, deadline_s=deadline_s)


async def test_what_comes_in_one_turn_is_one_call_and_each_gets_its_own_answer() -> None:
    server = Server()
    one = batcher(server)
    answers = [one.submit("a", number) for number in range(50)]
    assert await asyncio.gather(*answers) == [2 * number for number in range(50)]
    assert server.calls == [("a", list(range(50)))]


async def test_sales_do_not_share_a_call() -> None:
    server = Server()
    one = batcher(server)
    assert list(await asyncio.gather(one.submit("a", 1), one.submit("b", 2))) == [2, 4]
    assert sorted(server.calls) == [("a", [1]), ("b", [2])]


async def test_a_call_is_never_larger_than_it_may_be() -> None:
    server = Server()
    one = batcher(server, most=10)
    await asyncio.gather(*(one.submit("a", number) for number in range(25)))
    assert [len(items) for _, items in server.calls] == [10, 10, 5]


async def test_what_comes_while_enough_calls_are_under_way_gathers() -> None:
    server = Server()
    server.go.clear()
    one = batcher(server, in_flight=2)
    answers = []
    for number in range(10):
        answers.append(one.submit("a", number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [items for _, items in server.calls] == [[0], [1]]
    server.go.set()
    await asyncio.gather(*answers)
    assert [items for _, items in server.calls] == [[0], [1], list(range(2, 10))]


async def test_what_gathered_is_sent_by_no_more_calls_at_a_time_than_there_may_be() -> None:
    most_at_once = at_once = 0

    async def count(_: str, items: Sequence[int]) -> Sequence[int]:
        nonlocal most_at_once, at_once
        at_once += 1
        most_at_once = max(most_at_once, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return items

    one: Numbers = Batcher(count, most=1, in_flight=2, most_waiting=100, deadline_s=5)
    await asyncio.gather(*(one.submit("a", number) for number in range(20)))
    assert most_at_once == 2


async def test_too_many_waiters_are_refused_at_once_and_only_as_long_as_they_wait() -> None:
    server = Server()
    server.go.clear()
    one = batcher(server, waiting=3)
    answers = [one.submit("a", number) for number in range(3)]
    with pytest.raises(OverloadedError):
        one.submit("a", 4)
    server.go.set()
    await asyncio.gather(*answers)
    assert one.waiting == 0
    assert await one.submit("a", 4) == 8


async def test_a_call_that_got_no_answer_is_made_once_more_with_the_same_items() -> None:
    server = Server()
    server.failures = [UnavailableError()]
    assert await batcher(server).submit("a", 7) == 14
    assert server.calls == [("a", [7]), ("a", [7])]


async def test_after_two_failures_each_waiter_gets_the_error() -> None:
    server = Server()
    server.failures = [UnavailableError(), UnavailableError()]
    one = batcher(server)
    answers = await asyncio.gather(one.submit("a", 1), one.submit("a", 2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [UnavailableError, UnavailableError]
    assert one.waiting == 0
    assert await one.submit("a", 3) == 6


async def test_a_call_that_took_all_of_the_time_is_not_made_again() -> None:
    server = Server()
    server.failures = [UnavailableError()]
    one: Numbers

    def no_time_left(_: int) -> None:
        one._deadline_s = 0

    one = Batcher(server, most=1, in_flight=1, most_waiting=1, deadline_s=5, seen=no_time_left)
    with pytest.raises(UnavailableError):
        await one.submit("a", 7)
    assert len(server.calls) == 1


async def test_another_error_is_not_tried_again() -> None:
    server = Server()
    server.failures = [ValueError("a bug")]
    with pytest.raises(ValueError, match="a bug"):
        await batcher(server).submit("a", 1)
    assert len(server.calls) == 1


async def test_what_waited_too_long_is_refused_and_not_sent() -> None:
    server = Server()
    server.go.clear()
    one = batcher(server, in_flight=1, deadline_s=0)
    first = one.submit("a", 1)
    one._deadline_s = 5  # the first is sent, whatever the clock says
    await eventually(lambda: server.calls)
    late = one.submit("a", 2)
    one._deadline_s = -1
    server.go.set()
    assert await first == 2
    with pytest.raises(UnavailableError):
        await late
    assert server.calls == [("a", [1])]
    assert one.waiting == 0


async def test_a_waiter_that_goes_away_takes_nothing_with_it() -> None:
    server = Server()
    server.go.clear()
    one = batcher(server)

    async def wait(number: int) -> int:
        return await one.submit("a", number)

    gone, stays = asyncio.create_task(wait(1)), asyncio.create_task(wait(2))
    await eventually(lambda: server.calls)
    gone.cancel()
    server.go.set()
    assert await stays == 4
    assert server.calls == [("a", [1, 2])]
    assert one.waiting == 0


async def test_a_waiter_that_goes_away_keeps_the_error_from_nobody() -> None:
    server = Server()
    server.go.clear()
    server.failures = [ValueError("a bug")]
    one = batcher(server)
    gone, stays = one.submit("a", 1), one.submit("a", 2)
    await eventually(lambda: server.calls)
    gone.cancel()
    server.go.set()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(ValueError, match="a bug"):
            await stays
    assert one.waiting == 0


async def test_draining_waits_for_all_answers() -> None:
    server = Server()
    one = batcher(server, most=1, in_flight=1)
    answers = [one.submit("a", number) for number in range(5)]
    await one.drain()
    assert all(answer.done() for answer in answers)
    assert not one._lines
