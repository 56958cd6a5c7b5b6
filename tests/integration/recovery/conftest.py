"""A world of its own for each test; Kafka, Postgres and the order service are shared by these tests, and no others.

Who finds an empty Redis rebuilds every sale that Postgres knows: the sales of other tests would all come to life here.
"""

from collections.abc import AsyncIterator

import aiohttp
import asyncpg
import pytest

from fairline.stream import topics
from fairline.stream.writer import EventWriter
from order_service.migrate import migrate
from tests.support.recovering import DEADLINE_S, World, an_order_service
from tests.support.stack import Running, servers


@pytest.fixture(scope="session")
async def shared() -> AsyncIterator[Running]:
    async with servers("kafka", "postgres") as running:
        yield running


@pytest.fixture(scope="session")
def kafka(shared: Running) -> str:
    return shared.kafka


@pytest.fixture(scope="session")
def postgres_dsn(shared: Running) -> str:
    return shared.postgres_dsn


@pytest.fixture(scope="session")
async def order_service_url(kafka: str, postgres_dsn: str) -> AsyncIterator[str]:
    await topics.create(kafka, partitions=4, replication=1, within_s=DEADLINE_S)
    await migrate(postgres_dsn)
    async with an_order_service(kafka, postgres_dsn) as url:
        yield url


@pytest.fixture
async def own_redis() -> AsyncIterator[Running]:
    async with servers("redis") as running:
        yield running


@pytest.fixture
async def world(own_redis: Running, kafka: str, postgres_dsn: str, order_service_url: str) -> AsyncIterator[World]:
    writer = EventWriter(kafka, "test")
    async with aiohttp.ClientSession() as session:
        world = World(own_redis, kafka, order_service_url, session, writer)
        yield world
        await world.redis.aclose()
    await writer.close()
    postgres = await asyncpg.connect(postgres_dsn)
    await postgres.execute("UPDATE sales SET state = 'archived'")  # the next world need not rebuild them
    await postgres.close()
