"""What Redis and Postgres say themselves: sampled while the sale runs, and read in full at its end.

Nothing here goes through a service, and while a server is away there are no samples. A sample is one ``HGETALL`` of
the counts, so it is one instant of the sale. The sale's own channel gives the order in which tickets were admitted: the
first time a ticket's id is published is its first move, and Redis has one order for all of them.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self, cast

import asyncpg
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from fairline.runtime.services import cancelled
from fairline.states import State
from fairline.store.client import connect
from fairline.store.keys import SaleKeys
from fairline.store.moved import Moved
from fairline.store.scripts import TicketRecord

REDIS_EVERY_S: Final = 0.05
POSTGRES_EVERY_S: Final = 0.025
PAGE: Final = 500
LISTENING_WITHIN_S: Final = 10.0
_record: Final = msgspec.msgpack.Decoder(TicketRecord).decode
_slots: Final = msgspec.msgpack.Decoder(list[int]).decode


@dataclass(frozen=True, slots=True)
class Counts:
    """One instant of one sku: tickets that joined, and tickets by state."""

    joined: int
    states: dict[str, int]


@dataclass(frozen=True, slots=True)
class Sample:
    """One instant of a sale; ``in_flight`` are the leases."""

    at_s: float
    in_flight: int
    skus: dict[str, Counts]


@dataclass(frozen=True, slots=True)
class Row:
    """A unit that Postgres says is sold."""

    sku: str
    unit: int
    buyer_id: str
    ticket_id: str


@dataclass(frozen=True, kw_only=True)
class RedisView:
    """The whole sale in Redis at its end.

    ``left`` are the units that nobody holds, ``most_slots`` is the most that one buyer holds of one sku.
    """

    counts: dict[str, Counts]
    tickets: dict[str, TicketRecord]
    left: dict[str, int]
    most_slots: int
    outbox: int


@dataclass(slots=True)
class Seen:
    """What was noticed while the sale ran.

    ``moved`` has the tickets in the order of their first moves, and is whole only if ``listened`` without a break.
    """

    samples: list[Sample] = field(default_factory=list)
    moved: dict[str, int] = field(default_factory=dict)
    listened: bool = False
    rows: int = 0
    last_row_s: float = 0.0


class _Ear:
    """Hears the sale's channel. Redis forgets what it published, so a lost connection is a gap."""

    def __init__(self, seen: Seen) -> None:
        self.listening = asyncio.Event()
        self._seen = seen

    def subscribed(self, sale_id: str) -> None:  # noqa: ARG002 - it follows one sale
        """The first time, nothing has moved yet; a second time, something may have been missed."""
        self._seen.listened = not self.listening.is_set()
        self.listening.set()

    def moved(self, sale_id: str, ticket_ids: list[str]) -> None:  # noqa: ARG002 - as above
        """Keep each one's first move."""
        for ticket_id in ticket_ids:
            self._seen.moved.setdefault(ticket_id, len(self._seen.moved))

    def lost(self, error: Exception) -> None:  # noqa: ARG002 - it is lost
        """From now on the order is not known."""
        self._seen.listened = False


class Watch:
    """The outsider's connections to Redis and Postgres for one sale; use ``async with``."""

    def __init__(self, *, redis_url: str, postgres_dsn: str, sale_id: str, skus: tuple[str, ...]) -> None:
        self.seen = Seen()
        self._keys = SaleKeys(sale_id, skus)
        self._dsn = postgres_dsn
        self._redis: Redis = connect(redis_url, name="fairline-demo")
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await self._redis.aclose()

    async def start(self) -> None:
        """Begin to sample; when it comes back, nothing that moves is missed."""
        moved = Moved(self._redis)
        moved.follow(self._keys.sale_id)
        ear = _Ear(self.seen)
        self._tasks = [
            asyncio.create_task(moved.run(ear), name="channel"),
            asyncio.create_task(self._sample(), name="redis"),
            asyncio.create_task(self._count_rows(), name="postgres"),
        ]
        async with asyncio.timeout(LISTENING_WITHIN_S):
            await ear.listening.wait()

    async def stop(self) -> None:
        """End sampling; a second call is fine. What a sampler saw before it failed is kept."""
        await cancelled(*self._tasks)
        self._tasks = []

    async def rows(self) -> list[Row]:
        """Every unit sold, from the view that shops read."""
        postgres = await self._connect()
        try:
            found = await postgres.fetch(
                "SELECT sku, unit, buyer_id, ticket_id FROM sold WHERE sale_id = $1", self._keys.sale_id
            )
        finally:
            await postgres.close()
        return [Row(row["sku"], row["unit"], row["buyer_id"], str(row["ticket_id"])) for row in found]

    async def redis(self) -> RedisView:
        """The whole sale, records scanned page by page. Only at rest is it one instant."""
        keys = self._keys
        items = _numbers(await self._redis.hgetall(keys.items))
        left = {}
        for sku, returned in zip(keys.skus, keys.returned, strict=True):
            never_taken = max(0, items[f"{sku}:high"] - items[f"{sku}:next"] + 1)
            left[sku] = never_taken + int(await self._redis.zcard(returned))
        tickets = {}
        async for ticket_id, packed in self._redis.hscan_iter(keys.tickets, count=PAGE):
            tickets[_text(ticket_id)] = _record(packed)
        slots = [len(_slots(cast(bytes, packed))) for packed in await self._redis.hvals(keys.held)]
        return RedisView(
            counts=_counts(await self._redis.hgetall(keys.counts), keys.skus),
            tickets=tickets,
            left=left,
            most_slots=max(slots, default=0),
            outbox=int(await self._redis.xlen(keys.outbox)),
        )

    async def at_rest(self, *, within_s: float) -> bool:
        """Wait until nothing is on its way any more: nobody admitted or reserved, no fact that Kafka does not have."""
        deadline = time.monotonic() + within_s
        while True:
            counts = _counts(await self._redis.hgetall(self._keys.counts), self._keys.skus)
            moving = sum(each.states[state] for each in counts.values() for state in (State.ADMITTED, State.RESERVED))
            if moving == 0 and await self._redis.xlen(self._keys.outbox) == 0:
                return True
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POSTGRES_EVERY_S)

    async def _sample(self) -> None:
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self._redis.pipeline(transaction=True) as both:
                    both.hgetall(self._keys.counts)
                    both.zcard(self._keys.leases)
                    counts, in_flight = await both.execute()
                self.seen.samples.append(Sample(time.monotonic(), in_flight, _counts(counts, self._keys.skus)))
            await asyncio.sleep(REDIS_EVERY_S)

    async def _connect(self) -> asyncpg.Connection:
        """One for each use: a query that is cancelled in the middle leaves its connection to nobody."""
        return await asyncpg.connect(self._dsn, timeout=10, command_timeout=10)

    async def _count_rows(self) -> None:
        postgres: asyncpg.Connection | None = None
        try:
            while True:
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    if postgres is None or postgres.is_closed():
                        postgres = await self._connect()
                    count = await postgres.fetchval("SELECT count(*) FROM sold WHERE sale_id = $1", self._keys.sale_id)
                    if count != self.seen.rows:
                        self.seen.rows, self.seen.last_row_s = count, time.monotonic()
                await asyncio.sleep(POSTGRES_EVERY_S)
        finally:
            if postgres is not None:
                postgres.terminate()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _numbers(fields: Mapping[bytes | str, bytes | str]) -> dict[str, int]:
    return {_text(field): int(number) for field, number in fields.items()}


def _counts(fields: Mapping[bytes | str, bytes | str], skus: tuple[str, ...]) -> dict[str, Counts]:
    numbers = _numbers(fields)
    return {
        sku: Counts(
            joined=numbers.get(f"{sku}:joined", 0),
            states={state: numbers.get(f"{sku}:{state}", 0) for state in State},
        )
        for sku in skus
    }
