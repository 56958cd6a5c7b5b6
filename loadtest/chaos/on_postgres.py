"""A Postgres that is there and does not write: away, read-only, full, slow, locked; and orders that it cannot take."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from fairline.local.postgres_server import DATABASE
from loadtest.chaos.faults import Fault, Harmless, Scene
from loadtest.chaos.world import World

CONNECT_WITHIN_S: Final = 3.0
LONGEST_S: Final = 4.0
POISONED: Final = 3  # buyers whose orders cannot be written

_FULL: Final = "RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100';"
_SLOW: Final = "PERFORM pg_sleep({seconds});"
_POISON: Final = """
    IF NEW.sale_id = {sale_id} AND NEW.verdict = 'confirmed' AND NEW.buyer_id = ANY ({buyers}) THEN
        RAISE EXCEPTION 'this order is poison' USING ERRCODE = '22000';
    END IF;"""


class Broken(Harmless):
    """The whole database, in one of these ways."""

    targets = ("away", "readonly", "full", "slow")
    longest_s = LONGEST_S

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """From now on, also for those who are connected."""
        match fault.target:
            case "away":
                await _settle(scene.world, f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false")
            case "readonly":
                await _settle(scene.world, f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")
            case "full":
                await _trigger(scene.world, "full", _FULL, each="STATEMENT")
            case _:
                await _trigger(scene.world, "slow", _SLOW.format(seconds=f"{fault.amount:.3f}"), each="STATEMENT")

    async def end(self, scene: Scene, fault: Fault) -> None:
        """As it was."""
        match fault.target:
            case "away":
                await _settle(scene.world, f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true")
            case "readonly":
                await _settle(scene.world, f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only")
            case _:
                await _forget(scene.world, fault.target)


class Poison(Harmless):
    """Some orders of this sale are refused for what they are, the others are fine; for the rest of the round."""

    targets = ("orders",)
    longest_s = LONGEST_S

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """The orders of some buyers, chosen by ``amount``."""
        first = int(fault.amount * len(scene.buyers)) % len(scene.buyers)
        buyers = (*scene.buyers, *scene.buyers)[first : first + POISONED]
        async with connection(scene.world) as postgres:
            sale_id = await postgres.fetchval("SELECT quote_literal($1::text)", scene.sale.sale_id)
            listed = await postgres.fetchval("SELECT quote_literal($1::text[]::text) || '::text[]'", list(buyers))
            await _trigger(scene.world, "poison", _POISON.format(sale_id=sale_id, buyers=listed), each="ROW")

    async def end(self, scene: Scene, fault: Fault) -> None:  # noqa: ARG002 - there is one
        """They could be written now."""
        await _forget(scene.world, "poison")


@asynccontextmanager
async def connection(world: World, database: str = DATABASE) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """One of our own, around the proxies, that may write whatever the default is."""
    dsn = world.around("postgres").rpartition("/")[0]
    postgres = await asyncpg.connect(
        f"{dsn}/{database}",
        timeout=CONNECT_WITHIN_S,
        command_timeout=CONNECT_WITHIN_S,
        server_settings={"application_name": "breaker", "default_transaction_read_only": "off"},
    )
    try:
        yield postgres
    finally:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            await postgres.close()


async def _settle(world: World, change: str) -> None:
    """A change of the database that its sessions would see only when they begin: those that are there are ended."""
    async with connection(world, "postgres") as postgres:
        await postgres.execute(change)
        await postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()",
            DATABASE,
        )


async def _trigger(world: World, name: str, does: str, *, each: str) -> None:
    """Before every insert into orders."""
    async with connection(world) as postgres, postgres.transaction():
        await postgres.execute(
            f"CREATE OR REPLACE FUNCTION breaker_{name}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$breaker$ BEGIN {does} RETURN NEW; END $breaker$"
        )
        await postgres.execute(
            f"CREATE OR REPLACE TRIGGER breaker_{name} BEFORE INSERT ON orders "
            f"FOR EACH {each} EXECUTE FUNCTION breaker_{name}()"
        )


async def _forget(world: World, name: str) -> None:
    async with connection(world) as postgres:
        await postgres.execute(f"DROP FUNCTION IF EXISTS breaker_{name} CASCADE")
