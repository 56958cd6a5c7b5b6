"""An open-loop generator of joins: ``python -m loadtest.open_loop '{"port": ..., "seconds": 2, "streams": [...]}'``.

Buyers come when they come (a Poisson process with a seed), whether the gateway keeps up or not, and each is counted
from the moment it wanted to come: a slow server is asked no less often, and no wait is left out. A process of its own,
which talks to loopback only and ends by itself; what it prints is one JSON object. A *good* answer is a new ticket
within the buyers' patience; goodput is good answers a second.

Each buyer takes a connection that rests, or opens one, up to ``MOST_CONNECTIONS``: as a proxy in front would. Where
none is to be had the buyer is lost, which is counted apart. ``late_ms`` says how far the generator itself was behind
its own timetable; where that is much, the figures say nothing.
"""

import asyncio
import random
import secrets
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Final, cast

import msgspec
import uvloop

MOST_CONNECTIONS: Final = 4_000
MOST_S: Final = 60.0
MOST_A_SECOND: Final = 50_000
_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length: "
_BUYER: Final = b"01234567-00000001"


class Stream(msgspec.Struct):
    """Buyers of one sale."""

    sale_id: str
    rate: float
    sku: str = "seat"


class Plan(msgspec.Struct):
    """What to do."""

    port: int
    seconds: float
    streams: list[Stream]
    warm_s: float = 1.0  # before; nobody of then is counted, as connections are made that stay
    patience_s: float = 1.0
    seed: int = 1


class Heard(msgspec.Struct):
    """What became of one stream. Times are of good answers, in milliseconds."""

    sale_id: str
    sent: int
    good: int
    late: int  # new tickets, but after the buyers' patience
    lost: int  # no connection was to be had, or it broke, or there was no answer in the end
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    goodput: float


class Report(msgspec.Struct):
    """Everything."""

    streams: list[Heard]
    late_ms: float  # p99 of how far behind its own timetable this process was
    cpu_share: float  # of one core, of this process


class _Tally:
    def __init__(self) -> None:
        self.sent = self.lost = self.late = 0
        self.statuses: Counter[str] = Counter()
        self.good_ms: list[float] = []


class _Line(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, crowd: "_Crowd") -> None:
        self._crowd = crowd
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._asked: tuple[_Tally, float, bytes] | None = None

    def ask(self, tally: _Tally, since: float, request: bytes) -> None:
        self._asked = (tally, since, request)
        if self._transport is not None:
            self._transport.write(request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its type
        self._crowd.open.add(self)
        if self._asked is not None:
            self._transport.write(self._asked[2])

    def data_received(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        end = data.find(_END)
        at = data.find(_LENGTH, 0, end) if end >= 0 else -1
        if at < 0 or len(data) < end + 4 + int(data[at + len(_LENGTH) : data.find(b"\r", at)]):
            self._rest = data
            return
        self._rest = b""
        asked, self._asked = self._asked, None
        if asked is not None:
            self._crowd.heard(asked[0], asked[1], data[9:12])
        if b"connection: close" in data[:end]:
            self.close()
        else:
            self._crowd.resting.append(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the reason
        self._transport = None
        self._crowd.open.discard(self)
        if self._asked is not None:
            self._asked[0].lost += 1
            self._crowd.waiting -= 1
            self._asked = None

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Crowd:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.resting: deque[_Line] = deque()
        self.open: set[_Line] = set()
        self.opening: set[asyncio.Task[None]] = set()
        self.waiting = 0
        self.behind_ms: list[float] = []
        self.cpu_s = 0.0
        self.began = time.perf_counter()
        self._name = secrets.token_hex(4).encode()

    async def run(self) -> list[_Tally]:
        plan = self.plan
        tallies, before = [_Tally() for _ in plan.streams], _Tally()
        requests = [_request(stream, plan.port) for stream in plan.streams]
        timetable = self._timetable()
        due, at = next(timetable)
        counted, n = False, 0
        while due < plan.warm_s + plan.seconds:
            now = time.perf_counter() - self.began
            if not counted and now >= plan.warm_s:
                counted, self.cpu_s = True, time.process_time()
            while due <= now:
                n += 1
                head, tail = requests[at]
                buyer = b"%s-%08d" % (self._name, n)
                self._send(tallies[at] if counted else before, due, buyer.join((head, tail[0], tail[1])))
                if counted:
                    self.behind_ms.append((now - due) * 1000)
                due, at = next(timetable)
            await asyncio.sleep(max(0.0, min(due - now, 0.001)))
        self.cpu_s = time.process_time() - self.cpu_s
        deadline = time.perf_counter() + self.plan.patience_s + 2.0
        while self.waiting and time.perf_counter() < deadline:  # noqa: ASYNC110 - a load test may poll
            await asyncio.sleep(0.01)
        for line in list(self.open):
            line.close()
        await asyncio.sleep(0.05)
        return tallies

    def _timetable(self) -> Iterator[tuple[float, int]]:
        """When the next buyer comes, in seconds from the start, and of which stream."""
        draw, rates = random.Random(self.plan.seed), [stream.rate for stream in self.plan.streams]
        total, due = sum(rates), 0.0
        while True:
            due += draw.expovariate(total)
            yield due, 0 if len(rates) == 1 else draw.choices(range(len(rates)), rates)[0]

    def _send(self, tally: _Tally, since: float, request: bytes) -> None:
        tally.sent += 1
        while self.resting:
            line = self.resting.pop()
            if line.usable:
                self.waiting += 1
                line.ask(tally, since, request)
                return
        if len(self.open) + len(self.opening) >= MOST_CONNECTIONS:
            tally.lost += 1
            return
        self.waiting += 1
        line = _Line(self)
        line.ask(tally, since, request)
        task = asyncio.create_task(self._connect(line, tally))
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    async def _connect(self, line: _Line, tally: _Tally) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: line, "127.0.0.1", self.plan.port)
        except OSError:
            tally.lost += 1
            self.waiting -= 1

    def heard(self, tally: _Tally, since: float, status: bytes) -> None:
        took_ms = (time.perf_counter() - self.began - since) * 1000
        self.waiting -= 1
        tally.statuses[status.decode()] += 1
        if status == b"202":
            if took_ms <= self.plan.patience_s * 1000:
                tally.good_ms.append(took_ms)
            else:
                tally.late += 1


def _request(stream: Stream, port: int) -> tuple[bytes, tuple[bytes, bytes]]:
    """The parts of a join between which its buyer stands, as key and as buyer."""
    body, end = b'{"sku":"%s","buyer_id":"' % stream.sku.encode(), b'"}'
    length = len(body) + len(_BUYER) + len(end)
    head = (
        f"POST /sales/{stream.sale_id}/tickets HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\nidempotency-key: "
    )
    return head.encode(), (b"\r\n\r\n" + body, end)


def _at(sorted_ms: list[float], share: float) -> float:
    return round(sorted_ms[min(len(sorted_ms) - 1, int(len(sorted_ms) * share))], 1) if sorted_ms else 0.0


def report(plan: Plan, tallies: list[_Tally], behind_ms: list[float], cpu_s: float) -> Report:
    """The figures."""
    streams = []
    for stream, tally in zip(plan.streams, tallies, strict=True):
        good = sorted(tally.good_ms)
        answered = sum(tally.statuses.values())
        streams.append(
            Heard(
                sale_id=stream.sale_id,
                sent=tally.sent,
                good=len(good),
                late=tally.late,
                lost=tally.sent - answered,
                statuses=dict(tally.statuses),
                p50_ms=_at(good, 0.5),
                p99_ms=_at(good, 0.99),
                goodput=round(len(good) / plan.seconds, 1),
            )
        )
    return Report(streams, _at(sorted(behind_ms), 0.99), round(cpu_s / plan.seconds, 2))


async def main(plan: Plan) -> Report:
    """Play a plan; raises ``ValueError`` for one that is out of bounds."""
    if not (
        0 < plan.seconds + plan.warm_s <= MOST_S and 0 < sum(stream.rate for stream in plan.streams) <= MOST_A_SECOND
    ):
        raise ValueError(f"at most {MOST_S:g} s and {MOST_A_SECOND:,} joins a second")
    crowd = _Crowd(plan)
    tallies = await crowd.run()
    return report(plan, tallies, crowd.behind_ms, crowd.cpu_s)


if __name__ == "__main__":
    print(msgspec.json.encode(uvloop.run(main(msgspec.json.decode(sys.argv[1], type=Plan)))).decode())
