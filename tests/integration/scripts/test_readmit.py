"""readmit.lua: a RELEASED ticket's buyer has a new ticket at the old arrival, once; the old one stays as it is (S2)."""

import pytest

from fairline.ids import readmission_of
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver


async def released(sale: SaleDriver, buyer: str = "ada", *, sku: str | None = None, quantity: int = 1) -> str:
    """A ticket whose order could not be written."""
    [ticket] = await sale.reserved(buyer, sku=sku, quantity=quantity)
    await sale.release(ticket)
    return ticket


async def test_s2_the_new_ticket_stands_at_the_old_arrival_and_gets_the_next_unit(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    old = await released(sale)
    later = await sale.join("bob", "cleo")
    before = await sale.record(old)
    assert await sale.room.readmit(sale.id, old) == "READMITTED"
    new = readmission_of(sale.id, old)
    assert await sale.record(old) == before, "an outcome never changes"
    ticket = await sale.ticket(new)
    assert (ticket.state, ticket.buyer_id, ticket.arrival, ticket.position) == ("WAITING", "ada", before.arrival, 1)
    assert await sale.line() == [new, *later]
    assert (await sale.count("joined"), await sale.count("RELEASED"), await sale.count("WAITING")) == (4, 1, 3)
    lease, grant = await sale.admit()
    assert grant.ids == [new]
    assert await sale.reserve(lease, new) == ["RESERVED"]
    await sale.confirm(new)
    assert await sale.states(old, new) == ["RELEASED", "CONFIRMED"]


async def test_s2_twice_is_one_new_ticket_whatever_has_become_of_it(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    old = await released(sale)
    assert await sale.room.readmit(sale.id, old) == "READMITTED"
    new = readmission_of(sale.id, old)
    for outcome in ("WAITING", "LEFT"):
        assert await sale.room.readmit(sale.id, old) == "SAME"
        assert await sale.states(new) == [outcome]
        await sale.room.leave(sale.id, new, "seat")
    assert await sale.count("joined") == 2


async def test_s2_a_new_ticket_that_is_released_too_may_be_readmitted_again(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    old = await released(sale)
    await sale.room.readmit(sale.id, old)
    new = readmission_of(sale.id, old)
    lease, _ = await sale.admit()
    await sale.reserve(lease, new)
    await sale.release(new)
    assert await sale.room.readmit(sale.id, old) == "SAME"
    assert await sale.room.readmit(sale.id, new) == "READMITTED"
    assert (await sale.ticket(readmission_of(sale.id, new))).arrival == (await sale.record(old)).arrival


async def test_s2_what_was_asked_for_is_asked_for_again(new_sale: NewSale) -> None:
    sale = await new_sale({"box": 1, "seat": 5}, per_buyer_limit=3)
    old = await released(sale, sku="seat", quantity=3)
    assert await sale.room.readmit(sale.id, old) == "READMITTED"
    new = await sale.record(readmission_of(sale.id, old))
    assert (new.sku, new.quantity, new.units, new.slots, new.reason, new.tries) == ("seat", 3, (), (), "", 0)
    assert await sale.line("box") == []


async def test_u3_the_claim_of_the_readmitted_outlives_a_lower_stock(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    old = await released(sale)
    await sale.room.readmit(sale.id, old)
    assert await sale.item("back") == 1
    assert (await sale.set_stock(0, version=1)).word == "TOO_LOW"
    assert (await sale.set_stock(1, version=1)).word == "CHANGED"


async def test_only_a_released_ticket_is_readmitted(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    assert await sale.room.readmit(sale.id, "nobody") == "UNKNOWN"
    await sale.room.say_whole(await sale.room.instance())  # else that sale may be lost
    assert await sale.room.readmit("no-such-sale", "nobody") == "UNKNOWN"
    [ada] = await sale.join("ada")
    assert await sale.room.readmit(sale.id, ada) == "NOT_RELEASED"
    lease, _ = await sale.admit()
    await sale.reserve(lease, ada)
    assert await sale.room.readmit(sale.id, ada) == "NOT_RELEASED", "its verdict is on its way"
    await sale.confirm(ada)
    assert await sale.room.readmit(sale.id, ada) == "NOT_RELEASED"


async def test_a_buyer_who_has_joined_again_keeps_that_ticket(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    old = await released(sale)
    [again] = await sale.join("ada")
    assert await sale.room.readmit(sale.id, old) == "LIVE"
    assert await sale.line() == [again]


@pytest.mark.parametrize(("limit", "word"), [(2, "OVER_LIMIT"), (1, "ALREADY_BOUGHT")])
async def test_the_limit_of_a_buyer_holds(new_sale: NewSale, limit: int, word: str) -> None:
    sale = await new_sale(5, per_buyer_limit=limit)
    old = await released(sale, quantity=limit)
    await sale.sold("ada")
    assert await sale.room.readmit(sale.id, old) == word


async def test_e2_nobody_is_readmitted_to_what_is_sold_out_for_good(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    old = await released(sale)
    [bob] = await sale.reserved("bob")
    assert await sale.outlook() == "all_reserved"
    await sale.confirm(bob)
    assert await sale.room.readmit(sale.id, old) == "SOLD_OUT"
    await sale.patch(when_sold_out="keep_line")
    assert await sale.room.readmit(sale.id, old) == "READMITTED"


async def test_e4_nobody_is_readmitted_after_the_end_but_during_a_pause(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    ada, bob = await released(sale), await released(sale, "bob")
    await sale.change("pause")
    assert await sale.room.readmit(sale.id, ada) == "READMITTED"
    await sale.change("end")
    assert await sale.room.readmit(sale.id, bob) == "SALE_CLOSED"
