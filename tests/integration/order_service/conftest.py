"""A migrated Postgres, and the handlers on it."""

from collections.abc import AsyncIterator

import pytest

from order_service.migrate import migrate
from tests.support.orders import Desk


@pytest.fixture(scope="session")
async def migrated_dsn(postgres_dsn: str) -> str:
    await migrate(postgres_dsn)
    return postgres_dsn


@pytest.fixture
async def desk(migrated_dsn: str) -> AsyncIterator[Desk]:
    desk = Desk(migrated_dsn)
    yield desk
    await desk.postgres.close()
