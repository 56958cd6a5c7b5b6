"""sweep.lua and close.lua: sold out is told when it is true for good, and a sale ends for everybody (E1 to E4)."""

import pytest

from fairline.events import SaleChanged, SaleCounted, TicketDeclined
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver


async def test_e2_nobody_is_swept_while_a_unit_may_still_come_back(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    ada, bob = await sale.join("ada", "bob")
    assert await sale.sweep() == 0
    lease, _ = await sale.admit()
    assert await sale.sweep() == 0
    await sale.reserve(lease, ada)
    assert await sale.sweep() == 0
    await sale.confirm(ada)
    assert await sale.sweep() == 1
    record = await sale.record(bob)
    assert (record.state, record.reason) == ("SOLD_OUT", "")
    assert (await sale.look()).rows[0].served == 2
    assert (await sale.ask("bob"))[0] == "SOLD_OUT", "the buyer is free to ask, and hears it"


async def test_e3_the_sweep_goes_from_the_tail_and_asks_again_each_time(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    ids = await sale.join("ada", "bob", "cy", "dee", "eve")
    lease, _ = await sale.admit()
    await sale.reserve(lease, ids[0])
    await sale.confirm(ids[0])
    assert await sale.sweep(2) == 2
    assert await sale.states(*ids[1:]) == ["WAITING", "WAITING", "SOLD_OUT", "SOLD_OUT"]
    await sale.set_stock(2, version=1)
    assert await sale.sweep(2) == 0, "more was asked for meanwhile"
    await sale.acknowledge()
    assert await sale.admitted() == [ids[1]], "and the first of those left gets it"


async def test_e3_each_sku_is_swept_by_itself(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 1, "table": 1})
    await sale.sold("ada", sku="chair")
    sale_line = await sale.join("bob", sku="table")
    await sale.set_stock(2, version=1, sku="chair")
    late = await sale.join("cy", "dee", sku="chair")
    await sale.set_stock(1, version=2, sku="chair")
    assert await sale.sweep(1) == 1
    assert await sale.sweep(1) == 1
    assert await sale.states(*late, *sale_line) == ["SOLD_OUT", "SOLD_OUT", "WAITING"]


async def test_e3_one_call_sweeps_no_more_than_asked_for_however_many_skus_are_sold(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 1, "table": 1, "lamp": 1})
    for sku in sale.skus:
        await sale.join("ada", "bob", sku=sku)
        await sale.set_stock(0, version=1, sku=sku)
    assert [await sale.sweep(4) for _ in range(3)] == [4, 2, 0]
    assert [await sale.count("SOLD_OUT", sku) for sku in sale.skus] == [2, 2, 2]


async def test_e2_a_kept_line_is_never_swept(new_sale: NewSale) -> None:
    sale = await new_sale(0, when_sold_out="keep_line")
    ids = await sale.join("ada")
    assert (await sale.sweep(), await sale.states(*ids)) == (0, ["WAITING"])
    await sale.set_stock(1, version=1)
    await sale.acknowledge()
    assert await sale.admitted() == ids


@pytest.mark.parametrize(("state", "swept"), [("draft", 0), ("open", 1), ("paused", 1), ("ended", 0), ("closed", 0)])
async def test_the_sweep_works_only_between_opening_and_end(new_sale: NewSale, state: str, swept: int) -> None:
    sale = await new_sale(1)
    await sale.join("ada")
    await sale.set_stock(0, version=1)
    await sale.redis.hset(sale.keys.meta, "state", state)
    assert await sale.sweep() == swept


async def test_u3_who_is_swept_after_a_lease_gives_up_the_claim(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.join("ada")
    lease, _ = await sale.admit()
    await sale.give_back(lease, ada)
    await sale.redis.hset(sale.keys.items, "seat:next", 2)  # the unit is gone, as after lost data
    assert await sale.sweep() == 1
    assert await sale.item("back") == 0
    await sale.redis.hset(sale.keys.items, "seat:next", 1)


async def test_e4_a_sale_that_has_not_ended_is_not_closed(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    ids = await sale.join("ada")
    assert await sale.close() == ("NOT_ENDED", 0)
    assert await sale.states(*ids) == ["WAITING"]


async def test_e4_at_the_end_who_waits_is_declined_from_the_tail_and_postgres_is_told(new_sale: NewSale) -> None:
    sale = await new_sale({"chair": 9, "table": 9})
    a, b, c = await sale.join("ada", "bob", "cy", sku="chair")
    [d] = await sale.join("ada", sku="table")
    await sale.change("end")
    await sale.relay()
    assert await sale.close(2) == ("ENDED", 2)
    assert await sale.states(a, b, c, d) == ["WAITING", "DECLINED", "DECLINED", "WAITING"]
    assert await sale.close(2) == ("ENDED", 2)
    facts = await sale.relay()
    assert [(type(fact), getattr(fact, "reason", "")) for fact in facts] == [(TicketDeclined, "sale_closed")] * 4
    assert [row.served for row in (await sale.look()).rows] == [3, 1]


async def test_e4_a_sale_closes_when_nothing_is_under_way(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    admitted, reserved = await sale.join("ada", "bob")
    lease, _ = await sale.admit()
    await sale.reserve(lease, reserved)
    await sale.change("end")
    await sale.acknowledge()
    await sale.relay()
    assert await sale.close() == ("ENDED", 0), "one is admitted, one reserved"
    await sale.give_back(lease, admitted)
    assert await sale.close() == ("ENDED", 1), "who comes back from a lease finds the sale ended"
    assert await sale.item("back") == 0
    await sale.relay()
    assert await sale.close() == ("ENDED", 0)
    await sale.confirm(reserved)
    assert await sale.closed() == "CLOSED"
    assert await sale.close() == ("CLOSED", 0)
    assert (await sale.look()).meta["state"] == "closed"


async def test_c2_nothing_of_a_ticket_has_an_expiry_neither_alive_nor_when_its_sale_is_closed(
    new_sale: NewSale,
) -> None:
    sale = await new_sale(9)
    ids = await sale.join("ada", "bob", "cy", "dee")
    lease, _ = await sale.admit(3)
    await sale.reserve(lease, *ids[:2])
    await sale.confirm(ids[0])
    assert await sale.states(*ids) == ["CONFIRMED", "RESERVED", "ADMITTED", "WAITING"]
    assert await _expiring(sale) == {f"grant:{lease}"}, "which only remembers an answer (L1)"
    await sale.decline(lease, ids[2])
    await sale.confirm(ids[1])
    await sale.change("end")
    await sale.acknowledge()
    await sale.close()
    await sale.relay()
    assert await sale.closed() == "CLOSED"
    assert await _expiring(sale) == {f"grant:{lease}"}
    assert await sale.states(*ids) == ["CONFIRMED", "CONFIRMED", "DECLINED", "DECLINED"]


async def _expiring(sale: SaleDriver) -> set[str]:
    """The keys of the sale that end by themselves, without what all its keys begin with."""
    keys = [key.decode() async for key in sale.raw.scan_iter(f"fairline:{{{sale.id}}}:*")]
    assert keys
    return {key.split(":", 2)[2] for key in keys if await sale.redis.ttl(key) != -1}


async def test_e4_a_sale_closes_only_with_an_empty_outbox_that_postgres_has_read(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    await sale.change("end")
    assert await sale.close() == ("ENDED", 0)
    await sale.relay()
    assert await sale.close() == ("ENDED", 0), "Kafka has it; Postgres has not said so"
    assert await sale.relay() == []
    await sale.acknowledge()
    assert await sale.closed() == "CLOSED"


async def test_e4_postgres_is_told_the_last_counts_and_the_closing_before_the_sale_is_closed(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    await sale.join("ada", "bob")
    await sale.change("end")
    await sale.acknowledge()
    await sale.close()
    await sale.relay()
    version = (await sale.look()).meta["version"]
    assert await sale.close() == ("ENDED", 0)
    assert await sale.close() == ("ENDED", 0), "once is enough"
    counted, closing = await sale.relay()
    assert isinstance(counted, SaleCounted)
    assert (counted.counts["seat:joined"], counted.counts["seat:DECLINED"]) == (2, 2)
    assert isinstance(closing, SaleChanged)
    assert (closing.action, closing.state, closing.version) == ("close", "closed", int(version) + 1)
    assert await sale.close() == ("ENDED", 0), "Kafka has it; Postgres has not said so"
    [_, changes] = await sale.redrive(redrive_ms=0)
    assert changes == 1
    [again] = await sale.relay()
    assert isinstance(again, SaleChanged)
    assert (again.state, again.version) == ("closed", closing.version), "what was lost is sent again as it was"
    await sale.acknowledge()
    assert await sale.close() == ("CLOSED", 0)


async def test_o1_a_full_outbox_stops_the_closing_too(new_sale: NewSale) -> None:
    sale = await new_sale(9)
    ids = await sale.join("ada", "bob", "cy")
    await sale.change("end")
    waiting = await sale.redis.xlen(sale.keys.outbox)
    assert await sale.close(outbox_limit=waiting - 1) == ("ENDED", 0)
    assert await sale.close(outbox_limit=waiting) == ("ENDED", 0)
    assert await sale.close(outbox_limit=waiting + 2) == ("ENDED", 2)
    assert await sale.states(*ids) == ["WAITING", "DECLINED", "DECLINED"]
