"""D1: a Redis that is not the one a sale was fenced to is refused by every script, and nothing is changed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from fairline.errors import FencedError
from fairline.store.client import connect
from fairline.store.fence import adopt, identity
from fairline.store.keys import SaleKeys
from tests.integration.scripts.conftest import NewSale
from tests.support.killed_redis import kill_redis
from tests.support.sale import SaleDriver
from tests.support.sale_facts import faults_of
from tests.support.scripts import ALL_SCRIPTS, script_of
from tests.support.stack import Running, servers

# What a caller might say for each argument of any script; before the fence nothing of it is looked at.
ARGUMENTS: dict[str, Any] = {
    "action": "pause",
    "again_ms": 1,
    "because": "a test wants it",
    "at": 1,
    "batch": "a-batch",
    "counted": {"seat:asked": 1},
    "created": "",
    "declined": [("nobody", "no")],
    "due": "",
    "epoch": 0,
    "every_ms": 1000,
    "faults": [],
    "fields": {"message": "x"},
    "id": "new-ticket",
    "ids": [],
    "joins": [("new-ticket", 1, "eve", 1)],
    "keep_ms": 0,
    "lease": "a-lease",
    "lease_ms": 1000,
    "longest_ms": 1000,
    "max_tries": 1,
    "max_waiting": 10,
    "mend": 0,
    "most": 10,
    "moved": "nowhere",
    "orders_limit": 1000,
    "outbox_limit": 1000,
    "reason": "",
    "reasons": 50,
    "redrive_ms": 1,
    "share": "1",
    "shown": [("new-ticket", 1, "eve", 1, 0, 5, 5)],
    "sale_skus": ["seat"],
    "skus": ["seat"],
    "stock": 99,
    "stocks": [99],
    "stragglers": 20,
    "ticket_id": "nobody",
    "verdicts": [],
    "version": 99,
    "was": "nobody",
}
# These are for a sale fenced to another Redis, and have tests of their own: below, and in test_rebuilding.
OF_HALTED_SALES = {"adopt", "claim", "refill", "install", "let_go", "remember"}
FENCED_SCRIPTS = [each for each in ALL_SCRIPTS if each[1] not in OF_HALTED_SALES]


async def _all_of(redis: Any) -> dict[bytes, bytes]:
    return {key: await redis.dump(key) async for key in redis.scan_iter("*")}


async def _call(sale: SaleDriver, package: str, name: str) -> None:
    script = script_of(package, name)
    keys = SaleKeys(sale.id, sale.skus, lease="a-lease")
    await script(sale.redis, keys, **{each: ARGUMENTS[each] for each in script.args})


@pytest.mark.parametrize(("package", "name"), FENCED_SCRIPTS)
@pytest.mark.parametrize("fence", ["halted", "0" * 40, None])
async def test_d1_every_script_refuses_a_foreign_or_absent_fence_and_changes_nothing(
    new_sale: NewSale, package: str, name: str, fence: str | None
) -> None:
    sale = await new_sale(3, damaged=True)
    waiting, _ = await sale.join("ada", "bob")
    await sale.admit(1)
    await sale.end_leases(waiting)
    if fence is None:
        await sale.redis.hdel(sale.keys.meta, "fence")
    else:
        await sale.redis.hset(sale.keys.meta, "fence", fence)
    before = await _all_of(sale.redis)
    with pytest.raises(FencedError):
        await _call(sale, package, name)
    assert await _all_of(sale.redis) == before


@pytest.mark.parametrize(("package", "name"), [e for e in FENCED_SCRIPTS if e != ("fairline.store", "sale_create")])
async def test_d1_every_script_refuses_a_sale_that_redis_has_lost_altogether(
    redis: Redis, package: str, name: str
) -> None:
    sale = SaleDriver(redis, {"seat": 1})
    with pytest.raises(FencedError):
        await _call(sale, package, name)
    assert [key async for key in redis.scan_iter(f"fairline:{{{sale.id}}}:*")] == []


@pytest.fixture
async def own_redis() -> AsyncIterator[Running]:
    """A Redis of this test, which may be killed."""
    async with servers("redis") as running:
        yield running


async def test_d1_a_redis_that_came_back_from_its_aof_answers_fenced_until_it_is_adopted(own_redis: Running) -> None:
    was = await identity(own_redis.redis_url)
    client = connect(own_redis.redis_url, name="before")
    sale = await SaleDriver.opened(client, 3)
    admitted, _ = await sale.join("ada", "bob")
    lease, _ = await sale.admit(1)
    await client.aclose()
    await kill_redis(own_redis)

    client = connect(own_redis.redis_url, name="after")
    again = SaleDriver(client, {"seat": 3}, sale_id=sale.id)
    before = await _all_of(client)
    assert len(before) > 5, "the keys came back"
    for package, name in FENCED_SCRIPTS:
        with pytest.raises(FencedError):
            await _call(again, package, name)
    assert await _all_of(client) == before

    assert await adopt(own_redis.redis_url, "0" * 40) == [], "of another Redis altogether"
    assert await adopt(own_redis.redis_url, was) == [sale.id]
    assert await adopt(own_redis.redis_url, was) == []
    assert await again.reserve(lease, admitted) == ["RESERVED"]
    assert await faults_of(again) == []
    await client.aclose()
