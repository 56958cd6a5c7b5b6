"""A gateway on the shared Redis, and one on a Redis of its own that a test may trouble."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.support.gateway import Api, a_gateway
from tests.support.stack import Running, servers


@pytest.fixture(scope="session")
async def api(redis_url: str) -> AsyncIterator[Api]:
    async with a_gateway(redis_url) as running:
        yield running


@dataclass
class Troubled:
    """A gateway whose Redis may be stopped and killed."""

    api: Api
    redis: Running


@pytest.fixture
async def troubled() -> AsyncIterator[Troubled]:
    # Long enough that a busy machine is not taken for a Redis that is away.
    more = {"REDIS_TIMEOUT_S": "1", "GATEWAY_DEADLINE_S": "1.6"}
    async with servers("redis") as running, a_gateway(running.redis_url, **more) as one:
        yield Troubled(one, running)
