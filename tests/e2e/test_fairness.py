"""Two sales on one stack: the only order of a calm one while thousands of a busy one wait, at every step it takes."""

from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest

from fairline.cli.client import Address, Operator
from fairline.events import ORDERS
from fairline.store.client import connect
from fairline.stream.reader import Record
from fairline.stream.scan import scan
from tests.support.sale import SaleDriver
from tests.support.stack import PATIENCE_S, FullStack, eventually
from tests.support.trouble import hold, opened, release

BUSY: Final = 5_000
AT_ONCE: Final = 1_000
EARLY: Final = 0.5  # of the busy one's; an eighth on a machine at rest


@pytest.fixture
async def stack() -> AsyncIterator[FullStack]:
    # Smaller batches than usual, so that a backlog is many turns long.
    environ = {"FAIRLINE_KAFKA_SESSION_S": "1.5", "FAIRLINE_ADMISSION_RELAY_BATCH": "20"}
    async with FullStack(environ=environ) as stack:
        yield stack


@pytest.mark.timeout(400)  # some 30 s; every order goes the whole way
async def test_the_only_order_of_a_calm_sale_passes_the_thousands_of_a_busy_one_at_every_step(stack: FullStack) -> None:
    redis = connect(stack.info["redis_url"], name="test", timeout_s=20)
    try:
        busy, calm = SaleDriver(redis, {"seat": BUSY}), SaleDriver(redis, {"seat": 1})
        async with Operator(Address(stack.info["gateway_url"], stack.info["operator_key"])) as operator:
            for sale in (busy, calm):
                await operator.create(sale.definition)
                await opened(operator, sale.id)
        await hold(stack, "admission")
        crowd: list[str] = []
        for at in range(0, BUSY, AT_ONCE):
            crowd += await ordered(busy, *(f"buyer-{number}" for number in range(at, at + AT_ONCE)))
        assert await busy.raw.xlen(busy.keys.outbox) == BUSY
        await release(stack, "admission")
        await eventually(lambda: relaying(busy))
        [mine] = await calm.join("anna")  # the controller does the rest
        await eventually(lambda: settled(busy, BUSY), within_s=180)
        await eventually(lambda: settled(calm, 1))
        # What each step did before it came to the only order, in what it wrote itself.
        before = {
            "relayed": before_on(await on(stack, ORDERS), calm.id),
            "written": await written_before(stack, busy.id, mine),
            "settled": await settled_before(busy, crowd, await calm.record(mine)),
        }
        assert all(share < EARLY for share in before.values()), before
    finally:
        await redis.aclose()


async def ordered(sale: SaleDriver, *buyers: str) -> list[str]:
    """Their tickets, RESERVED, with their orders in the outbox."""
    ids = await sale.join(*buyers)
    lease, _ = await sale.admit(len(ids), outbox_limit=2 * BUSY)
    assert await sale.reserve(lease, *ids) == ["RESERVED"] * len(ids)
    return ids


async def relaying(sale: SaleDriver) -> bool:
    return int(await sale.raw.xlen(sale.keys.outbox)) < BUSY


async def settled(sale: SaleDriver, number: int) -> bool:
    return await sale.count("CONFIRMED") == number


async def on(stack: FullStack, topic: str) -> tuple[Record, ...]:
    found = await scan(stack.info["kafka"], [topic], "test", starts={}, most=4 * BUSY, within_s=PATIENCE_S)
    assert found.complete
    return found.records


def before_on(records: tuple[Record, ...], sale_id: str) -> float:
    """The share of the others in its partition that stand before the first record of this sale."""
    mine = next(record for record in records if record.fact is not None and record.fact.sale_id == sale_id)
    others = [record for record in records if record.where == mine.where and record is not mine]
    return sum(record.offset < mine.offset for record in others) / len(others)


async def written_before(stack: FullStack, sale_id: str, ticket_id: str) -> float:
    postgres = await asyncpg.connect(stack.info["postgres_dsn"], timeout=10, command_timeout=20)
    try:
        share: float = await postgres.fetchval(
            "SELECT avg((decided_at < (SELECT decided_at FROM orders WHERE ticket_id = $2))::int)::float8"
            " FROM orders WHERE sale_id = $1",
            sale_id,
            ticket_id,
        )
    finally:
        await postgres.close()
    return share


async def settled_before(sale: SaleDriver, ids: list[str], mine: Any) -> float:
    records = [await sale.record(ticket_id) for ticket_id in ids]
    return float(sum(record.changed_ms < mine.changed_ms for record in records) / len(records))
