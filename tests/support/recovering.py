"""A sale on a Redis that a test may rob of its data, with a real Kafka, order service and Postgres behind it."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from admission.records import Ended, Records
from admission.recovery import Recovery
from fairline.events import AnyFact
from fairline.store.client import connect
from fairline.store.fence import identity
from fairline.store.tickets import Shown, Ticket
from fairline.stream.writer import EventWriter
from order_service.app import start
from tests.support.killed_redis import kill_redis
from tests.support.orders import settings
from tests.support.sale import SaleDriver
from tests.support.stack import Running, eventually, servers

DEADLINE_S: Final = 60.0


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def an_order_service(kafka: str, postgres_dsn: str) -> AsyncIterator[str]:
    """The address of its internal port."""
    chosen = settings(postgres_dsn, kafka=kafka).model_copy(update={"internal_port": free_port()})
    stopping = asyncio.Event()
    running = asyncio.create_task(start(chosen, stopping))
    try:
        yield f"http://127.0.0.1:{chosen.internal_port}"
    finally:
        stopping.set()
        await asyncio.wait_for(running, 30)


def a_client(url: str) -> Redis:
    """As the services have it."""
    return connect(url, name="fairline-tests", timeout_s=10)


class World:
    """One Redis of a test, and everybody whom a recovery asks."""

    def __init__(
        self, running: Running, kafka: str, order_service_url: str, session: aiohttp.ClientSession, writer: EventWriter
    ) -> None:
        self.running = running
        self.kafka = kafka
        self.order_service_url = order_service_url
        self.records = Records(session, order_service_url)
        self._session = session
        self.redis: Redis = a_client(running.redis_url)
        self._writer = writer
        self._sales: dict[str, SaleDriver] = {}

    async def sale(self, stocks: dict[str, int] | int, **definition: Any) -> SaleDriver:
        """Open, and known to Postgres."""
        sale = await SaleDriver.opened(self.redis, stocks, **definition)
        self._sales[sale.id] = sale
        await self.send(sale)

        async def known() -> bool:
            found = await self.records.known(sale.id)
            return found is not None and found.version == 2

        await eventually(known, within_s=DEADLINE_S)
        return sale

    async def send(self, sale: SaleDriver) -> None:
        """What is in the outbox goes to Kafka."""
        await self.send_these(*await sale.relay())

    async def send_these(self, *facts: AnyFact) -> None:
        """These go to Kafka."""
        assert all(await self._writer.send(facts, DEADLINE_S))

    async def ask(self, path: str, body: Any = None) -> Any:
        """Of the internal port of the order service, as the gateway does."""
        url = f"{self.order_service_url}/internal/{path}"
        async with self._session.request("GET" if body is None else "POST", url, json=body) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def ended(self, sale: SaleDriver, number: int) -> dict[str, Ended]:
        """The tickets that ended, as soon as Postgres has so many."""

        async def written() -> dict[str, Ended]:
            found = {each.ticket_id: each async for each in self.records.ended(sale.id)}
            assert len(found) == number, f"{len(found)} of {number}"
            return found

        return await eventually(written, within_s=DEADLINE_S)

    async def attempt(self, sale: SaleDriver, *, drain_s: float = 1.0) -> Recovery:
        """An attempt that has the sale in hand."""
        known = await self.records.known(sale.id)
        assert known is not None
        attempt = Recovery(self.redis, self.records, self.kafka, known, drain_s=drain_s)
        assert await attempt.claim()
        return attempt

    async def recover(self, sale: SaleDriver, **more: Any) -> Recovery:
        """Everything in one go."""
        attempt = await self.attempt(sale, **more)
        await attempt.run()
        return attempt

    # How Redis loses data

    async def empty(self) -> None:
        """All of it, and it goes on running."""
        await self.redis.flushall()

    def copy(self) -> Path:
        """The append-only file as it is now."""
        return Path(shutil.copytree(self._file, self.running.folder / "older"))

    async def restart(self, older: Path | None = None) -> None:
        """Stop it and start it again, with an older file if one is given."""
        was = await identity(self.running.redis_url)
        await self.running.supervisor.hold("redis")
        if older is not None:
            shutil.rmtree(self._file)
            shutil.copytree(older, self._file)
        await self.running.supervisor.release("redis")
        await self.connect(self.running.redis_url)
        assert await identity(self.running.redis_url) != was

    async def kill(self) -> None:
        """It comes back from its file."""
        await kill_redis(self.running)
        await self.connect(self.running.redis_url)

    async def connect(self, url: str) -> None:
        """Everybody talks to the Redis at this address from now on."""
        await self.redis.aclose()
        self.redis = a_client(url)

        async def answers() -> bool:
            try:
                return bool(await self.redis.ping())
            except (RedisError, OSError):
                return False

        await eventually(answers)
        for sale in self._sales.values():
            sale.move_to(self.redis)

    @property
    def _file(self) -> Path:
        return self.running.folder / "redis" / "appendonlydir"


class Replica:
    """A second Redis that follows the first one, until it may not any more."""

    def __init__(self, world: World, running: Any, stack: Any) -> None:
        self._world = world
        self._running = running
        self._stack = stack
        self._client: Any = a_client(running.redis_url)

    @classmethod
    async def of(cls, world: World) -> "Replica":
        """Attached before there is any sale: a primary is another Redis once its first replica has come (D1)."""
        stack = servers("redis")
        replica = cls(world, await stack.__aenter__(), stack)
        port = int(world.running.redis_url.rpartition(":")[2].partition("/")[0])
        await replica._client.replicaof("127.0.0.1", port)

        async def attached() -> bool:
            return bool((await replica._client.info("replication"))["master_link_status"] == "up")

        await eventually(attached)
        return replica

    async def lag(self) -> None:
        """What it has now is what it will have."""

        async def whole() -> bool:
            there = await self._client.info("replication")
            first: Any = await self._world.redis.info("replication")
            return bool(there["slave_repl_offset"] == first["master_repl_offset"])

        await eventually(whole)
        await self._client.replicaof("127.0.0.1", 1)

    async def promote(self) -> None:
        """It is the primary now."""
        await self._client.replicaof("NO", "ONE")
        await self._client.aclose()
        await self._world.connect(self._running.redis_url)

    async def stop(self) -> None:
        """Gone."""
        await self._stack.__aexit__(None, None, None)


async def show(sale: SaleDriver, ticket: Ticket) -> Ticket | None:
    """The buyer asks the status with the token that came with this ticket."""
    token = Shown(ticket.ticket_id, ticket.sku, ticket.buyer_id, ticket.quantity, 0, ticket.arrival, ticket.number)
    [found] = await sale.room.show(sale.id, [token])
    return found


async def window_over(sale: SaleDriver) -> None:
    """Move the end of the time in which nobody is admitted into the past (P3)."""
    await sale.raw.hset(sale.keys.meta, mapping={"admit_from_us": 0, "filled_us": 0})
