"""count.lua: Postgres hears the counts from time to time, so that statistics outlive Redis."""

from fairline.events import SaleCounted
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver

EVERY_MS = 60_000
PLENTY = 1_000


async def test_the_counts_are_told_as_they_are(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.join("ada", "bob")
    await sale.relay()
    assert await _count(sale, every_ms=0) == "POSTED"
    [fact] = await sale.relay()
    assert isinstance(fact, SaleCounted)
    assert (fact.sale_id, fact.epoch) == (sale.id, 0)
    flat = (await sale.stats()).counts
    assert fact.counts == {flat[at]: int(flat[at + 1]) for at in range(0, len(flat), 2)}
    assert fact.counts["seat:WAITING"] == 2


async def test_what_is_told_is_not_told_again(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.join("ada")
    assert await _count(sale, every_ms=0) == "POSTED"
    assert await _count(sale, every_ms=0) == "SAME"
    await sale.join("bob")
    assert await _count(sale, every_ms=0) == "POSTED"


async def test_a_sale_that_nobody_asked_for_has_nothing_to_tell(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.relay()
    assert await _count(sale, every_ms=0) == "SAME"
    assert await sale.relay() == []


async def test_no_copy_tells_them_more_often_than_asked_also_when_the_clock_went_back(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.join("ada")
    assert await _count(sale) == "POSTED"
    await sale.join("bob")
    assert await _count(sale) == "NOT_DUE"
    counted_ms = int(await sale.redis.hget(sale.keys.meta, "counted_ms") or 0)
    await sale.redis.hset(sale.keys.meta, "counted_ms", counted_ms + 10 * EVERY_MS)
    assert await _count(sale) == "POSTED", "the last time lies in the future: it is no reason to wait for it"


async def test_o1_a_full_outbox_takes_no_counts(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.join("ada")
    full = await sale.redis.xlen(sale.keys.outbox)
    assert await _count(sale, every_ms=0, outbox_limit=full) == "NOT_DUE"
    assert await _count(sale, every_ms=0, outbox_limit=full + 1) == "POSTED"


async def _count(sale: SaleDriver, every_ms: int = EVERY_MS, outbox_limit: int = PLENTY) -> str:
    return await sale.stock.count(every_ms=every_ms, outbox_limit=outbox_limit)
