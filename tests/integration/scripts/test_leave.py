"""leave.lua: a place is given up once, and only by who still waits (E4)."""

from tests.integration.scripts.conftest import NewSale


async def test_who_waits_may_leave_and_hears_the_same_again(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    ada, bob = await sale.join("ada", "bob")
    for _ in range(2):
        word, ticket = await sale.room.leave(sale.id, ada, "seat")
        assert (word, ticket and ticket.state, ticket and ticket.position) == ("LEFT", "LEFT", None)
    assert await sale.line() == [bob]
    assert (await sale.ticket(bob)).position == 1, "served moves on when the head leaves"
    assert await sale.count("LEFT") == 1


async def test_nobody_leaves_who_was_admitted_or_has_an_outcome(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.join("ada")
    lease, _ = await sale.admit()
    for state in ("ADMITTED", "RESERVED", "CONFIRMED"):
        word, ticket = await sale.room.leave(sale.id, ada, "seat")
        assert (word, ticket and ticket.state) == ("NOT_WAITING", state)
        await sale.reserve(lease, ada)
        if state == "RESERVED":
            await sale.confirm(ada)


async def test_an_unknown_ticket_cannot_leave(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    assert await sale.room.leave(sale.id, "nobody", "seat") == ("UNKNOWN", None)


async def test_u3_who_leaves_after_a_lease_gives_up_the_claim(new_sale: NewSale) -> None:
    sale = await new_sale(3, per_buyer_limit=2)
    [ada] = await sale.join("ada", quantity=2)
    lease, _ = await sale.admit()
    await sale.give_back(lease, ada)
    assert await sale.item("back") == 2
    await sale.room.leave(sale.id, ada, "seat")
    assert await sale.item("back") == 0
    assert (await sale.set_stock(0, version=1)).word == "CHANGED"
