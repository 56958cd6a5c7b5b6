"""Gathering: the calls of one turn of the event loop go to Redis as one script call per sale.

Owns the items that wait and the tasks that carry them. A sale has at most ``in_flight`` calls under way; while they
are, what comes gathers, so batches grow with the load by themselves. A waiter that goes away takes nothing with it:
the batch runs on. An item that waited longer than ``deadline_s`` is failed, not sent.

Must never happen: an item sent twice by us with different ids, a waiter without an answer, more than ``most_waiting``.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from fairline.errors import OverloadedError, UnavailableError
from fairline.runtime.retry import retry

Item = TypeVar("Item")
Result = TypeVar("Result")
Call = Callable[[str, Sequence[Item]], Awaitable[Sequence[Result]]]


class _Line(Generic[Item, Result]):
    """What waits for one sale."""

    __slots__ = ("called", "in_flight", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[Item, asyncio.Future[Result], float]] = deque()
        self.in_flight = 0
        self.called = False


class Batcher(Generic[Item, Result]):
    """One kind of call, gathered by sale. ``call`` must be safe to repeat: after a failure it is tried once more."""

    def __init__(
        self,
        call: Call[Item, Result],
        *,
        most: int,
        in_flight: int,
        most_waiting: int,
        deadline_s: float,
        seen: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._call = call
        self._most = most
        self._in_flight = in_flight
        self._most_waiting = most_waiting
        self._deadline_s = deadline_s
        self._seen = seen
        self._lines: dict[str, _Line[Item, Result]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.waiting = 0

    def submit(self, sale_id: str, item: Item) -> asyncio.Future[Result]:
        """Its result, later; raises ``OverloadedError`` when too many wait already, and then nothing was done."""
        if self.waiting >= self._most_waiting:
            raise OverloadedError
        line = self._lines.get(sale_id)
        if line is None:
            line = self._lines[sale_id] = _Line()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Result] = loop.create_future()
        line.waiting.append((item, answer, time.monotonic()))
        self.waiting += 1
        if not line.called and line.in_flight < self._in_flight:
            line.called = True
            loop.call_soon(self._send, sale_id, line)
        return answer

    async def drain(self) -> None:
        """Wait until everything that was submitted has its answer."""
        while self._tasks or self.waiting:
            await asyncio.wait(self._tasks) if self._tasks else await asyncio.sleep(0)

    def _send(self, sale_id: str, line: _Line[Item, Result]) -> None:
        line.called = False
        oldest = time.monotonic() - self._deadline_s
        while line.waiting and line.in_flight < self._in_flight:
            batch: list[tuple[Item, asyncio.Future[Result]]] = []
            while line.waiting and len(batch) < self._most:
                item, answer, since = line.waiting.popleft()
                if since < oldest:
                    self._fail(answer, UnavailableError())
                else:
                    batch.append((item, answer))
            if batch:
                line.in_flight += 1
                task = asyncio.create_task(self._carry(sale_id, line, batch), name=f"batch of {sale_id}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        if not line.waiting and not line.in_flight:
            self._lines.pop(sale_id, None)

    async def _carry(
        self, sale_id: str, line: _Line[Item, Result], batch: list[tuple[Item, asyncio.Future[Result]]]
    ) -> None:
        items = [item for item, _ in batch]
        self._seen(len(items))
        try:
            results = await retry(
                lambda: self._call(sale_id, items),
                on=UnavailableError,
                attempts=2,
                first_s=0.02,
                longest_s=0.1,
                within_s=self._deadline_s,
            )
        except asyncio.CancelledError:
            self._fail_all(batch, UnavailableError())
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, each waiter gets it
            self._fail_all(batch, error)
        else:
            self.waiting -= len(batch)
            for (_, answer), result in zip(batch, results, strict=True):
                if not answer.done():
                    answer.set_result(result)
        finally:
            line.in_flight -= 1
            self._send(sale_id, line)

    def _fail_all(self, batch: list[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
        for _, answer in batch:
            self._fail(answer, error)

    def _fail(self, answer: asyncio.Future[Result], error: Exception) -> None:
        self.waiting -= 1
        if not answer.done():
            answer.set_exception(error)
