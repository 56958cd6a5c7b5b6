"""Takes one part of a running stack away, and brings it back: by the names of ``tests.support.failures``."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

import asyncpg
from aiohttp import web
from redis.asyncio import Redis

from fairline.local.postgres_server import DATABASE
from tests.support.admission import Shop
from tests.support.stack import FullStack, eventually
from tests.support.trouble import hold, kill, release

WITHIN_S: Final = 10.0
_NO_ROOM: Final = """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
    DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
            EXECUTE format('CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON %I EXECUTE FUNCTION no_room()', name);
        END LOOP;
    END $$"""


def copies(stack: FullStack, service: str) -> list[str]:
    """The names of all copies of a service, or of a server."""
    names = [process["name"] for process in stack.info["processes"]]
    return [name for name in names if name == service or name.startswith(f"{service}-")]


@asynccontextmanager
async def away(what: str, stack: FullStack, _shop: Shop) -> AsyncIterator[None]:
    """All copies of a service, or a server, are killed and do not come back by themselves."""
    names = copies(stack, what)
    kill(stack, *names)
    await hold(stack, *names)
    try:
        yield
    finally:
        await release(stack, *names)


@asynccontextmanager
async def frozen(stack: FullStack, _shop: Shop) -> AsyncIterator[None]:
    """Redis is there and does not answer."""
    kill(stack, "redis", number=signal.SIGSTOP)
    try:
        yield
    finally:
        kill(stack, "redis", number=signal.SIGCONT)


@asynccontextmanager
async def restarted(stack: FullStack, _shop: Shop) -> AsyncIterator[None]:
    """Redis is another one, and may have lost its last second; nobody rebuilds what it holds."""
    async with away("admission", stack, _shop):
        (before,) = kill(stack, "redis")
        await eventually(lambda: stack.pid("redis") != before)
        yield


@asynccontextmanager
async def emptied(stack: FullStack, _shop: Shop) -> AsyncIterator[None]:
    """Redis has forgotten everything; nobody rebuilds what it held."""
    async with away("admission", stack, _shop):
        redis = Redis.from_url(stack.info["redis_url"])
        try:
            await redis.flushall()
            yield
        finally:
            await redis.aclose()


@asynccontextmanager
async def full(stack: FullStack, _shop: Shop) -> AsyncIterator[None]:
    """Postgres answers each write with 53100 (disk_full)."""
    async with _postgres(stack) as postgres:
        await postgres.execute(_NO_ROOM)
        try:
            yield
        finally:
            await postgres.execute("DROP FUNCTION no_room CASCADE")


@asynccontextmanager
async def read_only(stack: FullStack, _shop: Shop) -> AsyncIterator[None]:
    """Postgres refuses each write, as a standby does."""
    async with _postgres(stack) as postgres:
        await _for_all_sessions(postgres, f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")
        try:
            yield
        finally:
            await _for_all_sessions(postgres, f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only")


@asynccontextmanager
async def locked(stack: FullStack, _shop: Shop) -> AsyncIterator[None]:
    """Postgres is so slow that nothing ends: somebody holds the tables."""
    async with _postgres(stack) as postgres, postgres.transaction():
        tables = await postgres.fetchval(
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
        )
        await postgres.execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def shop_away(_stack: FullStack, shop: Shop) -> AsyncIterator[None]:
    """The shop's endpoint answers with errors."""
    before = shop.answer

    async def fail(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    shop.answer = fail
    try:
        yield
    finally:
        shop.answer = before


WAYS: Final[dict[str, Callable[[FullStack, Shop], AbstractAsyncContextManager[None]]]] = {
    **{f"{service} down": partial(away, service) for service in ("gateway", "admission", "order_service", "notifier")},
    "Redis frozen": frozen,
    "Redis down": partial(away, "redis"),
    "Redis restarted, not yet rebuilt": restarted,
    "Redis emptied, not yet rebuilt": emptied,
    "Kafka down": partial(away, "kafka"),
    "Postgres down": partial(away, "postgres"),
    "Postgres full": full,
    "Postgres read-only": read_only,
    "Postgres locked": locked,
    "shop's endpoint down": shop_away,
}


@asynccontextmanager
async def _postgres(stack: FullStack) -> AsyncIterator["asyncpg.Connection[Any]"]:
    postgres = await asyncpg.connect(
        stack.info["postgres_dsn"],
        timeout=WITHIN_S,
        command_timeout=WITHIN_S,
        server_settings={"default_transaction_read_only": "off"},
    )
    try:
        yield postgres
    finally:
        async with asyncio.timeout(WITHIN_S):
            await postgres.close()


async def _for_all_sessions(postgres: "asyncpg.Connection[Any]", change: str) -> None:
    """A session sees such a change only when it begins, so those that are there are ended."""
    await postgres.execute(change)
    await postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()",
        DATABASE,
    )
