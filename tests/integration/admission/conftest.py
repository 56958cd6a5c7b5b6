"""What the tests of admission are given; a sale is compared with its own tickets when its test ends."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from fairline.runtime.metrics import Metrics
from fairline.store.client import connect
from fairline.stream import topics
from tests.support.admission import UnsteadyRedis
from tests.support.sale import SaleDriver
from tests.support.sale_facts import faults_of

NewSale = Callable[..., Awaitable[SaleDriver]]


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client as the services have it."""
    client = connect(redis_url, name="fairline-tests", timeout_s=10, max_connections=64)
    yield client
    await client.aclose()


@pytest.fixture
async def unsteady(redis: Redis) -> UnsteadyRedis:
    """The same, with the means to make it fail."""
    return UnsteadyRedis(redis)


@pytest.fixture
def metrics() -> Metrics:
    """Of one process."""
    return Metrics()


@pytest.fixture
async def new_sale(redis: Redis) -> AsyncIterator[NewSale]:
    """``await new_sale(3, rate_per_s=5.0)``: an open sale; ``draft=True`` for one that is not acknowledged either.

    With ``damaged=True`` for a sale to which the test does what a healthy Redis never sees.
    """
    made: list[SaleDriver] = []
    healthy: list[SaleDriver] = []

    async def new_sale(
        stocks: dict[str, int] | int, *, draft: bool = False, damaged: bool = False, **definition: Any
    ) -> SaleDriver:
        if draft:
            sale = SaleDriver(redis, {"seat": stocks} if isinstance(stocks, int) else stocks, **definition)
            await sale.create()
        else:
            sale = await SaleDriver.opened(redis, stocks, **definition)
        made.append(sale)
        if not damaged:
            healthy.append(sale)
        return sale

    yield new_sale
    faults = [f"{sale.id}: {fault}" for sale in healthy for fault in await faults_of(sale)]
    for sale in made:
        await sale.remove()
    assert faults == []


@pytest.fixture
async def topics_of(kafka: str) -> str:
    """Kafka with all topics."""
    await topics.create(kafka, partitions=4, replication=1, within_s=60)
    return kafka


@pytest.fixture
def buyers() -> Callable[[int], list[str]]:
    """So many buyers that nobody else has."""
    return lambda number: [f"buyer-{at}-{secrets.token_hex(2)}" for at in range(number)]
