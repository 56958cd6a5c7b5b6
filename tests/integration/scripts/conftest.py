"""What every test of a script is given, and what is checked after each of them.

A sale made by ``new_sale`` is compared with its own tickets when the test ends, and every key that the test left must
be in the table of ``fairline.store.keys``, with the type and the expiry that stand there.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis

from fairline.store import keys as names
from fairline.store.client import connect
from tests.support.sale import SaleDriver
from tests.support.sale_facts import faults_of

# For --hypothesis-profile=long, which pytest asks for before it reads a test (see test_model).
settings.register_profile(
    "long",
    max_examples=2_000,
    stateful_step_count=150,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)

GONE = -2  # what TTL answers for a key that is not there
NewSale = Callable[..., Awaitable[SaleDriver]]

_ROW = re.compile(r"^    (fairline:\S+)\s+(set|hash|zset|stream|string)\s+(.*)$", re.MULTILINE)
_PARTS = {
    re.escape("{S}"): r"\{[a-z0-9-]+\}",
    "SKU": r"[A-Za-z0-9._-]+",
    "LEASE": r"\S+",
    "LOOK": r"[0-9a-f]{32}",
}


def _known_keys() -> list[tuple[re.Pattern[str], str, bool]]:
    """(pattern, type, whether it expires) of each row of the table of keys."""
    known = []
    for name, kind, said in _ROW.findall(names.__doc__ or ""):
        pattern = re.escape(name)
        for part, matches in _PARTS.items():
            pattern = pattern.replace(part, matches)
        known.append((re.compile(pattern), kind, "expires" in said))
    return known


async def key_faults(redis: Any) -> list[str]:
    """Keys that nobody knows, or of another type or expiry than the table of keys says."""
    known = _known_keys()
    faults = []
    async for raw in redis.scan_iter("*", count=1000):
        key = raw.decode()
        kind, ttl_s = (await redis.type(key)).decode(), await redis.ttl(key)
        if kind == "none" or ttl_s == GONE:
            continue  # it ended meanwhile
        rows = [(what, expires) for pattern, what, expires in known if pattern.fullmatch(key)]
        if len(rows) != 1:
            faults.append(f"{key} is not in the table of keys")
        elif rows[0] != (kind, ttl_s >= 0):
            faults.append(f"{key}: {kind}, expires in {ttl_s} s; the table says {rows[0]}")
    return faults


@pytest.fixture(scope="session")
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client as the services have it."""
    client = connect(redis_url, name="fairline-tests", timeout_s=10, max_connections=64)
    yield client
    await client.aclose()


@pytest.fixture
async def new_sale(redis: Redis) -> AsyncIterator[NewSale]:
    """``await new_sale(3)``, ``await new_sale({"chair": 1, "table": 2}, per_buyer_limit=2)``: an open sale.

    With ``damaged=True`` for a sale to which the test does what a healthy Redis never sees.
    """
    made: list[SaleDriver] = []
    healthy: list[SaleDriver] = []

    async def new_sale(stocks: dict[str, int] | int, *, damaged: bool = False, **definition: Any) -> SaleDriver:
        sale = await SaleDriver.opened(redis, stocks, **definition)
        made.append(sale)
        if not damaged:
            healthy.append(sale)
        return sale

    yield new_sale
    faults = [f"{sale.id}: {fault}" for sale in healthy for fault in await faults_of(sale)]
    faults += await key_faults(redis)
    for sale in made:
        await sale.remove()
    assert faults == []
