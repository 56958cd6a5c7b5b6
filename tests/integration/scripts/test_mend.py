"""balance.lua and mend.lua: what reconcile asks Redis, and what it puts right, each only while it is so."""

import pytest

from admission.reconcile.census import Census
from admission.reconcile.differences import Difference
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver


def fault(kind: str, subject: str | int, number: int = 0) -> Difference:
    return Difference(kind=kind, sku="seat", subject=str(subject), number=number, redis="", postgres="")


def census_of(sale: SaleDriver) -> Census:
    return Census(sale.redis, sale.id, sale.skus)


async def mended(sale: SaleDriver, *faults: Difference) -> list[str]:
    """What looking says, then what mending says, then what mending again says."""
    census = census_of(sale)
    looked = await census.mend(faults)
    assert await census.mend(faults) == looked, "looking changes nothing"
    assert set((await census.mend(faults, epoch="7")).words) == {"GONE"}, "it was rebuilt since"
    assert await census.mend(faults) == looked
    words = (await census.mend(faults, epoch=looked.epoch)).words
    assert [{"STANDS": "MENDED"}.get(word, word) for word in looked.words] == words
    assert set((await census.mend(faults, epoch=looked.epoch)).words) == {"GONE"}
    return words


async def test_a_unit_in_no_hand_is_put_back(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    [ada] = await sale.sold("ada")
    [bob] = await sale.reserved("bob")
    [cy] = await sale.reserved("cy")
    await sale.release(cy)
    await sale.redis.zrem(sale.keys.returned[0], 3)  # the damage
    words = await mended(sale, fault("unit_lost", 3), fault("unit_lost", 2), fault("unit_lost", 4))
    assert words == ["MENDED", "GONE", "GONE"], "2 is in an order, 4 was never given out"
    assert await sale.returned() == [3]
    assert await sale.states(ada, bob) == ["CONFIRMED", "RESERVED"]


async def test_a_unit_that_came_back_or_is_off_sale_is_in_a_hand(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    ids = await sale.reserved("ada", "bob")
    await sale.release(*ids)
    await sale.set_stock(1, version=1)
    assert (await sale.returned(), await sale.withdrawn()) == ([1], {2})
    assert await mended(sale, fault("unit_lost", 1), fault("unit_lost", 2)) == ["GONE", "GONE"]


async def test_a_sold_unit_is_taken_out_of_stock(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    await sale.sold("ada")
    await sale.redis.zadd(sale.keys.returned[0], {"1": 1})  # the damage
    assert await mended(sale, fault("unit_free", 1), fault("unit_free", 2)) == ["MENDED", "GONE"]
    assert await sale.returned() == []


async def test_a_slot_of_nobody_is_freed_and_one_in_an_order_is_not(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=3)
    await sale.reserved("ada")
    who = "seat:ada"
    await sale.redis.hset(sale.keys.held, who, b"\x92\x01\x03")  # the damage: slots 1 and 3
    words = await mended(sale, fault("slot_lost", "ada", 1), fault("slot_lost", "ada", 3), fault("slot_lost", "bob", 1))
    assert words == ["GONE", "MENDED", "GONE"]
    assert await sale.raw.hget(sale.keys.held, who) == b"\x91\x01"


async def test_the_last_slot_leaves_nothing(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    await sale.redis.hset(sale.keys.held, "seat:ada", b"\x91\x01")  # the damage
    assert await mended(sale, fault("slot_lost", "ada", 1)) == ["MENDED"]
    assert not await sale.redis.hexists(sale.keys.held, "seat:ada")


async def test_a_sold_slot_is_taken_again(new_sale: NewSale) -> None:
    sale = await new_sale(9, per_buyer_limit=2)
    await sale.sold("ada", "bob")
    await sale.redis.hdel(sale.keys.held, "seat:ada")  # the damage
    assert await mended(sale, fault("slot_free", "ada", 1), fault("slot_free", "bob", 1)) == ["MENDED", "GONE"]
    assert await sale.raw.hget(sale.keys.held, "seat:ada") == b"\x91\x01"


async def test_an_order_that_nobody_would_send_again_is_sent(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    ada, bob = await sale.reserved("ada", "bob")
    [cy] = await sale.join("cy")
    await sale.redis.zrem(sale.keys.reserved, ada)  # the damage
    words = await mended(
        sale,
        fault("order_unsent", ada),
        fault("order_unsent", bob),
        fault("order_unsent", cy),
        fault("order_unsent", "?"),
    )
    assert words == ["MENDED", "GONE", "GONE", "GONE"]
    await sale.relay()
    assert (await sale.redrive())[0] == 1
    assert [fact.key for fact in await sale.relay()] == [ada]


@pytest.mark.parametrize(
    ("damage", "subject"), [("tickets", "tickets"), ("live", "live"), ("leases", "leases"), ("reserved", "reserved")]
)
async def test_c1_what_is_kept_twice_and_differs_is_found(new_sale: NewSale, damage: str, subject: str) -> None:
    sale = await new_sale(1, damaged=True)
    await sale.join("ada", "bob", "cy")
    census = census_of(sale)
    assert await census.balance() == []
    key = getattr(sale.keys, damage)
    if damage in {"tickets", "live"}:
        await sale.redis.hset(key, "nobody", "x")
    else:
        await sale.redis.zadd(key, {"nobody": 1})
    [wrong] = await census.balance()
    assert (wrong.kind, wrong.subject) == ("count_differs", subject)


async def test_c1_a_line_that_is_longer_than_counted_is_found(new_sale: NewSale) -> None:
    sale = await new_sale(1, damaged=True)
    await sale.join("ada")
    await sale.redis.zadd(sale.keys.line[0], {"nobody": 1})
    [wrong] = await census_of(sale).balance()
    assert (wrong.subject, wrong.redis) == ("line", "2, counted 1")
