"""Migrations: repeatable, safe to start together, bounded when Postgres or the lock cannot be had."""

import asyncio

import asyncpg
import pytest

from order_service.migrate import LOCK, MigrationError, migrate
from tests.support.orders import NOWHERE


@pytest.fixture
async def empty_dsn(postgres_dsn: str) -> str:
    """A database of this test's own."""
    admin = await asyncpg.connect(postgres_dsn)
    try:
        await admin.execute("DROP DATABASE IF EXISTS migrations_test")
        await admin.execute("CREATE DATABASE migrations_test")
    finally:
        await admin.close()
    return f"{postgres_dsn.rpartition('/')[0]}/migrations_test"


async def test_three_at_once_and_one_again_leave_one_schema(empty_dsn: str) -> None:
    await asyncio.gather(*(migrate(empty_dsn) for _ in range(3)))
    await migrate(empty_dsn)
    connection = await asyncpg.connect(empty_dsn)
    try:
        assert await connection.fetchval("SELECT count(*) FROM alembic_version") == 1
        assert await connection.fetchval("SELECT count(*) FROM sold") == 0
    finally:
        await connection.close()


async def test_a_lock_that_is_never_given_back_is_not_waited_for_without_end(empty_dsn: str) -> None:
    other = await asyncpg.connect(empty_dsn)
    try:
        await other.execute("SELECT pg_advisory_lock($1)", LOCK)
        with pytest.raises(MigrationError, match="holds the lock"):
            await migrate(empty_dsn, within_s=0.3)
        assert await other.fetchval("SELECT to_regclass('orders')") is None
    finally:
        await other.close()
    await migrate(empty_dsn)


async def test_no_postgres_and_a_wrong_password_are_said_in_one_line(postgres_dsn: str) -> None:
    with pytest.raises(MigrationError, match="did not answer within"):
        await migrate(f"postgresql://fairline:x@{NOWHERE}/fairline", within_s=0.3)
    head, _, tail = postgres_dsn.partition("@")
    with pytest.raises(MigrationError, match="refuses"):
        await migrate(f"{head}wrong@{tail}", within_s=10)


async def test_what_postgres_refuses_to_migrate_is_said_in_one_line(empty_dsn: str) -> None:
    await migrate(empty_dsn)
    connection = await asyncpg.connect(empty_dsn)
    try:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(MigrationError, match=r"^the schema cannot be brought up to date: .*'9999'$"):
            await migrate(empty_dsn)
        await connection.execute("DROP TABLE alembic_version")
        with pytest.raises(MigrationError, match=r"already exists$"):
            await migrate(empty_dsn)
        await connection.execute("ALTER DATABASE migrations_test SET default_transaction_read_only = on")
        with pytest.raises(MigrationError, match=r"read-only transaction$"):
            await migrate(empty_dsn)
    finally:
        await connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1:none", "127.0.0.1:99999", "a..b:5432"])
async def test_an_address_that_cannot_be_one_is_said_at_once(host: str) -> None:
    with pytest.raises(MigrationError, match="cannot be one"):
        await migrate(f"postgresql://fairline@{host}/fairline")
