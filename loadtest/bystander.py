"""Who looks on while a sale is played, and asks no service: instants of the counts in Redis, and the sale's channel.

While Redis is away, or knows no such sale, there is nothing to see.
"""

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Any, Final, Self

import asyncpg
from redis.exceptions import RedisError

from fairline.runtime.services import cancelled
from fairline.states import State
from fairline.store.client import connect
from fairline.store.keys import SaleKeys
from fairline.store.moved import Moved
from loadtest import history
from loadtest.recorder import Recorder

LOOKS_EVERY_S: Final = 0.05
ANSWERS_WITHIN_S: Final = 5.0
# Each of these is a fact, and becomes a row of Postgres.
IN_HISTORY: Final = (State.CONFIRMED, State.RELEASED, State.DECLINED, State.LAPSED)
ON_THE_WAY: Final = (State.WAITING, State.ADMITTED, State.RESERVED)
_COUNTED: Final = {"joined", "admitted_total", *State}
_AWAY: Final = (RedisError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Bystander:
    """Writes into the history what is seen of one sale; use ``async with``. ``counts``: those of the last look."""

    def __init__(self, sale_id: str, recorder: Recorder, *, redis_url: str, postgres_dsn: str) -> None:
        self.counts: dict[str, dict[str, int]] = {}
        self._keys = SaleKeys(sale_id)
        self._recorder = recorder
        self._dsn = postgres_dsn
        self._redis = connect(redis_url, name="bystander", timeout_s=1)
        self._listening = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        moved = Moved(self._redis)
        moved.follow(self._keys.sale_id)
        self._tasks = [
            asyncio.create_task(moved.run(self), name="channel"),
            asyncio.create_task(self._sample(), name="samples"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancelled(*self._tasks)
        await self._redis.aclose()

    def subscribed(self, sale_id: str) -> None:
        """The first time nothing has moved yet; after that something may have been missed."""
        if self._listening.is_set():
            self.moved(sale_id, [])
        self._listening.set()

    def moved(self, sale_id: str, ticket_ids: list[str]) -> None:  # noqa: ARG002 - as above
        """In Redis's own order."""
        self._recorder.write(history.Moved(at_s=time.monotonic(), ticket_ids=tuple(ticket_ids)))

    def lost(self, error: Exception) -> None:  # noqa: ARG002 - it is lost
        """From now on moves may be missed."""
        self._recorder.write(history.Moved(at_s=time.monotonic(), ticket_ids=()))

    async def listening(self, *, within_s: float) -> None:
        """Wait until nothing is missed any more."""
        async with asyncio.timeout(within_s):
            await self._listening.wait()

    async def at_rest(self, *, within_s: float) -> str:
        """Wait until nothing is on its way, in Redis, Kafka or Postgres; what still is when the time is over."""
        deadline = time.monotonic() + within_s
        left = await self._on_the_way()
        while left:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(LOOKS_EVERY_S)
            left = await self._on_the_way()
        return left

    async def _on_the_way(self) -> str:
        try:
            _, counts = await self._look()
            outbox = int(await self._redis.xlen(self._keys.outbox))
            replication = await self._redis.info("replication")
            fence: Any = await self._redis.hget(self._keys.meta, "fence")
            rows = await self._rows()
        except _AWAY as error:
            return repr(error)
        by_state = {state: sum(each.get(state, 0) for each in counts.values()) for state in State}
        told = sum(by_state[state] for state in IN_HISTORY)
        on_the_way = [f"{by_state[state]} {state}" for state in ON_THE_WAY if by_state[state]]
        on_the_way += [f"{outbox} facts in the outbox"] if outbox else []
        # More rows are not on the way: a decline that Redis lost after it was written may have ended otherwise (D5).
        on_the_way += [f"{rows} of {told} outcomes in the history"] if rows < told else []
        on_the_way += ["the sale is halted"] if fence != replication["master_replid"].encode() else []
        return ", ".join(on_the_way)

    async def _rows(self) -> int:
        """A connection for each use: a query that is cancelled in the middle leaves its connection to nobody."""
        postgres = await asyncpg.connect(self._dsn, timeout=ANSWERS_WITHIN_S, command_timeout=ANSWERS_WITHIN_S)
        try:
            rows: int = await postgres.fetchval(
                "SELECT count(*) FROM ticket_history WHERE sale_id = $1", self._keys.sale_id
            )
        finally:
            await postgres.close(timeout=ANSWERS_WITHIN_S)
        return rows

    async def _sample(self) -> None:
        while True:
            asked_s = time.monotonic()
            with contextlib.suppress(*_AWAY):
                in_flight, counts = await self._look()
                if counts:
                    self.counts, at_s = counts, time.monotonic()
                    self._recorder.write(history.Sample(at_s=at_s, asked_s=asked_s, in_flight=in_flight, counts=counts))
            await asyncio.sleep(LOOKS_EVERY_S)

    async def _look(self) -> tuple[int, dict[str, dict[str, int]]]:
        async with self._redis.pipeline(transaction=True) as both:
            both.hgetall(self._keys.counts)
            both.zcard(self._keys.leases)
            fields, in_flight = await both.execute()
        return in_flight, _by_sku(fields)


def _by_sku(fields: dict[Any, Any]) -> dict[str, dict[str, int]]:
    """What a sample has of them; the other running totals stay out."""
    counts: dict[str, dict[str, int]] = {}
    for name, number in fields.items():
        sku, _, what = name.decode().partition(":")
        if what in _COUNTED:
            counts.setdefault(sku, {})[what] = int(number)
    return counts
