"""Fixtures that every layer may ask for."""

from collections.abc import AsyncIterator

import pytest

from tests.support.stack import servers


@pytest.fixture(scope="session")
async def redis_url() -> AsyncIterator[str]:
    """A real Redis or Valkey, started once per run; a test cleans up or uses names of its own."""
    async with servers("redis") as running:
        yield running.redis_url


@pytest.fixture(scope="session")
async def postgres_dsn() -> AsyncIterator[str]:
    """A real Postgres with an empty database ``fairline``, started once per run."""
    async with servers("postgres") as running:
        yield running.postgres_dsn


@pytest.fixture(scope="session")
async def kafka() -> AsyncIterator[str]:
    """A real Kafka (``host:port``) without topics, started once per run."""
    async with servers("kafka") as running:
        yield running.kafka
