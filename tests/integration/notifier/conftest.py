"""A sale on a real Redis, moved by the real scripts, and a notifier beside it."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from fairline.store.client import connect
from tests.support.listeners import RunningNotifier, a_notifier
from tests.support.sale import SaleDriver


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url, name="test", timeout_s=20)
    yield client
    await client.aclose()


@pytest.fixture
async def sale(redis: Redis) -> AsyncIterator[SaleDriver]:
    opened = await SaleDriver.opened(redis, 100, message="Welcome")
    yield opened
    await opened.remove()


@pytest.fixture
async def notifier(redis_url: str) -> AsyncIterator[RunningNotifier]:
    async with a_notifier(redis_url) as running:
        yield running
