"""stock.lua, applied.lua: stock is set, not moved; more waits for Postgres, less leaves every hand its unit (U3)."""

import pytest

from fairline.errors import FencedError
from fairline.events import SaleChanged
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver


async def _last(sale: SaleDriver) -> tuple[int, int, int, tuple[int, ...]]:
    facts = [fact for fact in await sale.relay() if isinstance(fact, SaleChanged)]
    item = facts[-1].items[0]
    return item.stock, item.high, item.version, item.withdrawn


async def test_u3_more_is_sold_only_after_postgres_knows_it(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    reply = await sale.set_stock(3, version=1)
    assert reply.word == "CHANGED"
    assert await _last(sale) == (3, 3, 1, ())
    await sale.join("ada", "bob", "cy")
    assert len(await sale.admitted()) == 1
    assert await sale.acknowledge(reply.number) == "APPLIED"
    assert len(await sale.admitted()) == 2


async def test_u3_the_same_change_twice_is_made_once(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    first = await sale.set_stock(3, version=7)
    again = await sale.set_stock(3, version=7)
    assert (first.word, again.word, again.number) == ("CHANGED", "SAME", first.number)
    assert await sale.item("target") == 3
    await sale.acknowledge()
    assert ((await sale.set_stock(3, version=7)).word, await sale.item("high")) == ("SAME", 3)


async def test_u3_an_older_version_and_a_used_one_change_nothing(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.set_stock(3, version=7)
    for stock, version in ((9, 6), (9, 7), (9, 0)):
        reply = await sale.set_stock(stock, version=version)
        assert (reply.word, reply.number) == ("STALE", 7)
    assert await sale.item("stock") == 3


async def test_u3_less_takes_first_what_was_never_sold(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    held = await sale.reserved("ada", "bob")
    await sale.release(held[0])
    assert (await sale.set_stock(3, version=1)).word == "CHANGED"
    assert await _last(sale) == (3, 3, 1, ())
    assert await sale.returned() == [1], "what came back is still on sale"
    assert (await sale.set_stock(1, version=2)).word == "CHANGED"
    assert await _last(sale) == (1, 2, 2, (1,))
    assert (await sale.returned(), await sale.withdrawn()) == ([], {1})


async def test_u3_less_takes_the_largest_of_those_that_came_back(new_sale: NewSale) -> None:
    sale = await new_sale(3)
    held = await sale.reserved("ada", "bob", "cy")
    await sale.release(*held)
    assert (await sale.set_stock(1, version=1)).word == "CHANGED"
    assert (await sale.returned(), await sale.withdrawn()) == ([1], {2, 3})
    assert (await sale.stats()).stocks[0] == (1, 1, 3, 2)


async def test_u3_never_a_unit_that_is_held_or_claimed(new_sale: NewSale) -> None:
    sale = await new_sale(6, per_buyer_limit=2)
    await sale.sold("ada")
    await sale.reserved("bob")
    await sale.join("cy", quantity=2)
    lease, reply = await sale.admit()
    too_low = await sale.set_stock(3, version=1)
    assert (too_low.word, too_low.number) == ("TOO_LOW", 4)
    await sale.give_back(lease, *reply.ids)
    too_low = await sale.set_stock(0, version=1)
    assert (too_low.word, too_low.number) == ("TOO_LOW", 4), "back from a lease, the claim stays"
    assert (await sale.set_stock(4, version=1)).word == "CHANGED"
    lease, reply = await sale.admit()
    assert await sale.reserve(lease, *reply.ids) == ["RESERVED"]


async def test_u3_less_first_takes_back_what_postgres_does_not_know_yet(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    await sale.reserved("ada", "bob")
    first = await sale.set_stock(9, version=1)
    second = await sale.set_stock(5, version=2)
    assert second.word == "CHANGED"
    assert await _last(sale) == (5, 5, 2, ())
    assert await sale.acknowledge(first.number) == "APPLIED"
    assert await sale.item("high") == 2, "that Postgres knows the first change says nothing of the second"
    assert await sale.acknowledge(second.number) == "APPLIED"
    assert await sale.item("high") == 5
    third = await sale.set_stock(8, version=3)
    too_low = await sale.set_stock(1, version=4)
    assert (too_low.word, too_low.number) == ("TOO_LOW", 2)
    assert (await sale.set_stock(2, version=4)).word == "CHANGED"
    await sale.acknowledge(third.number)
    assert await sale.item("high") == 2


async def test_u3_down_and_up_again_gives_new_serials_for_those_withdrawn(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    held = await sale.reserved("ada", "bob")
    await sale.release(*held)
    for version, stock in enumerate((0, 2, 1, 3, 0, 2), 1):
        assert (await sale.set_stock(stock, version=version)).word == "CHANGED"
        await sale.acknowledge()
    sold = await sale.sold("cy", "dee")
    units = [unit for each in sold for unit in (await sale.record(each)).units]
    assert not set(units) & await sale.withdrawn()
    assert await sale.outlook() == "sold_out"


async def test_u3_one_sku_is_changed_and_the_other_is_not(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 1, "table": 1})
    await sale.set_stock(4, version=1, sku="table")
    await sale.acknowledge()
    assert [(row.stock, row.free, row.version) for row in (await sale.look()).rows] == [(1, 1, 0), (4, 4, 1)]


async def test_after_the_end_stock_stays_as_it_is(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.set_stock(2, version=1)
    await sale.change("end")
    reply = await sale.set_stock(5, version=2)
    assert (reply.word, reply.number) == ("ENDED", 0)
    assert (await sale.set_stock(2, version=1)).word == "SAME", "a repeat is told what it was told before"


async def test_an_unknown_sku_is_no_call_at_all(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    assert await sale.sales.set_stock(sale.id, "sofa", stock=1, version=1, reason="") is None


async def test_o4_an_acknowledgement_counts_once_in_order_and_in_its_epoch(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    reply = await sale.set_stock(2, version=1)
    assert await sale.acknowledge(reply.number, epoch=1) == "OLD", "of another epoch"
    assert await sale.acknowledge(reply.number + 1) == "OLD", "of a version that was never asked for"
    assert await sale.item("high") == 1
    assert await sale.acknowledge(reply.number) == "APPLIED"
    assert await sale.acknowledge(reply.number) == "OLD"
    assert await sale.acknowledge(1) == "OLD"
    assert await sale.sales.acked(sale.id) == reply.number


async def test_d2_an_acknowledgement_of_another_sale_of_the_same_id_halts_this_one(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    created = int(await sale.raw.hget(sale.keys.meta, "created_ms"))
    for same in (created, None):
        version = (await sale.patch(message=f"as of {same}")).version
        assert await sale.stock.applied(version=version, epoch=0, created_at_ms=same) == "APPLIED"
    assert await sale.stock.applied(version=version + 9, epoch=7, created_at_ms=created - 1) == "HALTED"
    assert await sale.raw.hmget(sale.keys.meta, "fence", "halted_because") == [b"halted", b"made anew"]
    with pytest.raises(FencedError):
        await sale.change("pause")


async def test_a_sale_of_which_it_is_not_known_when_it_was_created_is_acknowledged_by_any(new_sale: NewSale) -> None:
    """One that an older version made, or rebuilt from what an older one had told Postgres."""
    sale = await new_sale(1)
    for number, forget in enumerate((("HDEL", "created_ms"), ("HSET", "created_ms", "")), 1):
        await sale.raw.execute_command(forget[0], sale.keys.meta, *forget[1:])
        version = (await sale.set_stock(1 + number, version=number)).number
        changed = [fact for fact in await sale.relay() if isinstance(fact, SaleChanged)][-1]
        assert (changed.version, changed.created_at_ms) == (version, None)
        assert await sale.stock.applied(version=version, epoch=0, created_at_ms=5) == "APPLIED"


async def test_o4_a_later_acknowledgement_covers_an_earlier_change(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 0, "table": 0})
    await sale.set_stock(1, version=1, sku="chair")
    await sale.set_stock(2, version=1, sku="table")
    reply = await sale.patch(message="more")
    assert await sale.acknowledge(reply.version) == "APPLIED"
    assert [await sale.item("high", sku) for sku in sale.skus] == [1, 2]
