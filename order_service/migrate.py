"""Brings the schema of Postgres up to date: ``python -m order_service.migrate``.

Forward only, raw SQL, by alembic; nothing to do when it is up to date. Several may be started at once: one migrates,
the others wait for it. They poll the lock instead of blocking on it: a session that blocks holds a snapshot, for which
``CREATE INDEX CONCURRENTLY`` of the one that migrates would wait for ever.
"""

import asyncio
import logging
import sys
import time
from typing import Any, Final

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from fairline.runtime.settings import PostgresSettings, SettingsError, load

LOCK: Final = 0x6661_6972_6C69_6E65  # "fairline", as a number of 63 bits
POLL_S: Final = 0.2
CONNECT_S: Final = 5.0


class MigrationError(Exception):
    """The schema cannot be brought up to date; the message says why in one line."""


async def migrate(dsn: str, *, within_s: float = 60.0) -> None:
    """Bring the schema up to date. Waits for Postgres, and for another that migrates, until ``within_s`` is over."""
    deadline = time.monotonic() + within_s
    holder = await _connection(dsn, deadline, within_s)
    try:
        while not await holder.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            if time.monotonic() > deadline:
                raise MigrationError(f"another migration holds the lock, and did so for {within_s:g} s")
            await asyncio.sleep(POLL_S)
        await _upgrade(dsn)
    except (SQLAlchemyError, CommandError, asyncpg.PostgresError, OSError) as error:
        said = str(getattr(error, "orig", error)).partition("\n")[0]
        raise MigrationError(f"the schema cannot be brought up to date: {said}") from error
    finally:
        await holder.close()  # and with it the lock


async def _connection(dsn: str, deadline: float, within_s: float) -> "asyncpg.Connection[asyncpg.Record]":
    while True:
        try:
            return await _connect(dsn)
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise MigrationError(f"Postgres refuses: {error}") from error
        except (ValueError, OverflowError) as error:
            raise MigrationError(f"the address of Postgres cannot be one: {error}") from error
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            if time.monotonic() + POLL_S > deadline:
                raise MigrationError(f"Postgres did not answer within {within_s:g} s: {error!r}") from error
            await asyncio.sleep(POLL_S)


async def _connect(dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    return await asyncpg.connect(
        dsn, timeout=CONNECT_S, server_settings={"application_name": "order_service migrations"}
    )


async def _upgrade(dsn: str) -> None:
    async def connect() -> Any:
        return await _connect(dsn)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run)
    finally:
        await engine.dispose()


def _run(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "order_service:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def main() -> int:
    """The command; its exit code."""
    try:
        settings = load(PostgresSettings)
    except SettingsError as error:
        print(*(f"migrate: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)  # noqa: T201
        return 2
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        asyncio.run(migrate(settings.postgres_dsn.get_secret_value()))
    except MigrationError as error:
        print(f"migrate: {error}", file=sys.stderr)  # noqa: T201 - a command prints
        return 1
    print("migrate: the schema is up to date")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
