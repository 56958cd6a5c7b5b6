"""The connections to Postgres, and what an error of it means: *never* for this record, or *later* for all.

The only place where connections are made and errors judged. No wait is without a limit: for a connection, for a
statement, for giving a connection back.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from fairline.errors import UnavailableError
from order_service.settings import OrderServiceSettings

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

CLOSE_S: Final = 2.0
# SQLSTATE classes that mean the data itself: data exception, integrity constraint violation (V6).
_NEVER: Final = ("22", "23")
# The last one is the driver's, of a connection that a cancellation left in the middle of something.
_AWAY: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class RefusedError(Exception):
    """Postgres cannot take the data as they are, now or ever."""


class Postgres:
    """A pool that connects when it is first used, so that the process starts while Postgres is away."""

    def __init__(self, settings: OrderServiceSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._pool: Pool | None = None
        self._making = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection outside a transaction. Errors are those of ``transaction``."""
        try:
            pool = await self._ready()
            async with pool.acquire(timeout=self._settings.acquire_timeout_ms / 1000) as connection:
                yield connection
        except (*_AWAY, OSError, TimeoutError) as error:
            if is_never(error):
                raise RefusedError(f"{type(error).__name__}: {error}") from error
            raise UnavailableError(f"Postgres: {error!r}") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """One transaction, committed at the end.

        Raises ``RefusedError`` for data that can never be written, ``UnavailableError`` for all else that Postgres
        may say: away, too slow, a deadlock, even a missing table. After that one the commit may have happened.
        """
        # Read committed: a statement sees what another writer, whom it waited for, has just committed.
        async with self.connection() as connection, connection.transaction(isolation="read_committed"):
            yield connection

    async def check(self) -> None:
        """Raises ``UnavailableError`` when Postgres does not answer, or the schema is not there. For ``/readyz``."""
        async with self.connection() as connection:
            await connection.fetchval("SELECT count(*) FROM (SELECT FROM attempts LIMIT 1) AS one")

    async def close(self) -> None:
        """Close the connections; what is still under way after a moment is cut off. A second call does nothing more."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_S):
                await pool.close()
        except (*_AWAY, OSError, TimeoutError):
            pool.terminate()

    async def _ready(self) -> Pool:
        async with self._making:
            if self._pool is None:
                self._pool = await self._create()
            return self._pool

    async def _create(self) -> Pool:
        return await asyncpg.create_pool(
            self._settings.postgres_dsn.get_secret_value(),
            min_size=0,
            max_size=self._settings.pool,
            timeout=self._settings.acquire_timeout_ms / 1000,
            command_timeout=self._settings.command_timeout_ms / 1000,
            max_inactive_connection_lifetime=60,
            server_settings={"application_name": self._name},
        )


def is_never(error: BaseException) -> bool:
    """Whether an error is about the data of a record (V6); everything else is *later*."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] in _NEVER
    # What the driver finds before it sends anything: a number too large, text that is no UUID.
    return isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)
