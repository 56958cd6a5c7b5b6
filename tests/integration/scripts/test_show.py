"""D3, D4: after a rebuild nobody is admitted unasked, and whoever shows a token has the old place again."""

from typing import Any

import msgspec
import pytest

from fairline.events import SaleCounted
from fairline.ids import new_ticket_id
from fairline.store.tickets import ARRIVALS_AN_EPOCH, UNSEEN, Shown, Ticket
from tests.integration.scripts.conftest import NewSale
from tests.support.rebuilt import rebuilt
from tests.support.sale import SaleDriver
from tests.support.sale_facts import faults_of


async def show(sale: SaleDriver, ticket: Ticket, *, quantity: int = 1, asked: int = 0) -> Ticket | None:
    """Its buyer shows the token that came with the join."""
    token = Shown(ticket.ticket_id, ticket.sku, ticket.buyer_id, quantity, asked, ticket.arrival, ticket.number)
    [found] = await sale.room.show(sale.id, [token])
    return found


async def joined(sale: SaleDriver, *buyers: str, **more: Any) -> list[Ticket]:
    """New tickets, as their buyers were told of them."""
    return [await sale.ticket(ticket_id) for ticket_id in await sale.join(*buyers, **more)]


async def test_d3_nobody_is_admitted_unasked_and_those_who_come_go_by_arrival(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    ada, bob, cy = await joined(sale, "ada", "bob", "cy")
    await rebuilt(sale)
    assert await sale.admitted() == []
    for late in (cy, ada):
        shown = await show(sale, late)
        assert shown is not None
        assert (shown.state, shown.arrival, shown.unseen) == ("WAITING", late.arrival, False)
    assert await sale.admitted() == [ada.ticket_id, cy.ticket_id]
    assert (await sale.record(bob.ticket_id)).lease == UNSEEN


async def test_d3_who_is_not_there_is_met_once_and_costs_later_calls_nothing(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    tickets = await joined(sale, *(f"buyer-{at}" for at in range(6)))
    await rebuilt(sale)
    assert await sale.admitted(4) == []
    assert await sale.line() == [each.ticket_id for each in tickets[4:]]
    assert await faults_of(sale) == []
    back = await show(sale, tickets[0])
    assert back is not None
    assert back.position == 1
    assert await sale.admitted() == [tickets[0].ticket_id]
    assert await sale.line() == []


async def test_a_place_is_not_told_to_nobody_and_is_a_rank_again_for_those_who_come(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    first, second = await joined(sale, "ada", "bob")
    await rebuilt(sale)
    unseen = await sale.ticket(second.ticket_id)
    assert (unseen.unseen, unseen.position) == (True, None)
    shown = await show(sale, second)
    assert shown is not None
    assert shown.position == 2, "ada may come yet"
    assert await show(sale, second) == shown
    assert (await sale.ticket(second.ticket_id)).position == 2
    assert (await sale.ticket(first.ticket_id)).position is None


async def test_d4_a_lost_ticket_comes_back_at_its_arrival_with_what_it_asked_for(new_sale: NewSale) -> None:
    sale = await new_sale(5, per_buyer_limit=3)
    ada, bob = await joined(sale, "ada", "bob", quantity=2)
    await rebuilt(sale, ada.ticket_id, found=0)
    [cy] = await joined(sale, "cy")
    shown = await show(sale, ada, quantity=2, asked=2)
    assert shown is not None
    assert (shown.arrival, shown.quantity, shown.asked, shown.position) == (ada.arrival, 2, 2, 1)
    assert await show(sale, ada, quantity=2, asked=2) == shown, "again: the same"
    assert await sale.count("joined") == 3
    await show(sale, bob, quantity=2)
    assert await sale.admitted() == [ada.ticket_id, bob.ticket_id, cy.ticket_id]


async def test_d4_a_token_of_what_was_found_or_of_today_brings_nothing_back(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    ada, bob = await joined(sale, "ada", "bob")
    await rebuilt(sale, ada.ticket_id, bob.ticket_id, found=1)
    assert await show(sale, ada) is None, "its record was there to be found: it ended and was archived"
    assert await show(sale, bob) is not None
    [cy] = await joined(sale, "cy")
    never = msgspec.structs.replace(cy, ticket_id=new_ticket_id(), arrival=ARRIVALS_AN_EPOCH + 9)
    assert await show(sale, never) is None
    assert await sale.count("joined") == 2


async def test_d4_of_a_closed_sale_nothing_comes_back(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    [ada] = await joined(sale, "ada")
    await rebuilt(sale, ada.ticket_id, found=0)
    await sale.raw.hset(sale.keys.meta, "state", "closed")
    assert await show(sale, ada) is None


async def test_e4_who_comes_back_while_a_sale_closes_is_among_the_last_counts(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    [ada] = await joined(sale, "ada")
    await rebuilt(sale, ada.ticket_id, found=0)
    await sale.change("end")
    await sale.acknowledge(epoch=1)
    await sale.relay()
    assert await sale.close() == ("ENDED", 0), "Postgres is told that it is closed"
    assert await show(sale, ada) is not None
    await sale.relay()
    await sale.acknowledge(epoch=1)
    assert await sale.close() == ("ENDED", 1)
    await sale.relay()
    assert await sale.close() == ("ENDED", 0), "and is told again"
    counted = [fact.counts for fact in await sale.relay() if isinstance(fact, SaleCounted)]
    assert [counts["seat:DECLINED"] for counts in counted] == [1]
    await sale.acknowledge(epoch=1)
    assert await sale.close() == ("CLOSED", 0)


async def test_d4_the_live_ticket_takes_the_smaller_arrival_and_answers_for_both(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    ada, bob = await joined(sale, "ada", "bob")
    await rebuilt(sale, ada.ticket_id, found=0)
    await show(sale, bob)
    [again] = await joined(sale, "ada")
    assert again.position == 2
    shown = await show(sale, ada)
    assert shown is not None
    assert (shown.ticket_id, shown.arrival, shown.position) == (again.ticket_id, ada.arrival, 1)
    assert await sale.admitted() == [again.ticket_id, bob.ticket_id]
    assert await sale.count("joined") == 2
    lease = (await sale.record(again.ticket_id)).lease
    await sale.reserve(lease, again.ticket_id)
    await sale.confirm(again.ticket_id)
    after = await show(sale, ada)
    assert after is not None
    assert (after.ticket_id, after.state) == (again.ticket_id, "CONFIRMED"), "its end is the end of both"


async def test_d4_who_joined_again_by_the_same_request_gets_the_old_place_with_the_old_token(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    _, ada = await sale.ask("ada", key="a-key")
    [bob] = await joined(sale, "bob")
    assert ada is not None
    await rebuilt(sale, ada.ticket_id, found=0)
    _, again = await sale.ask("ada", key="a-key")
    assert again is not None
    assert (again.ticket_id, again.epoch) == (ada.ticket_id, 1)
    await show(sale, bob)
    shown = await show(sale, ada)
    assert shown is not None
    assert (shown.arrival, shown.position) == (ada.arrival, 1)
    assert await sale.admitted() == [ada.ticket_id, bob.ticket_id]


async def test_d4_a_ticket_that_was_made_anew_answers_for_itself_again(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    _, ada = await sale.ask("ada", key="a-key")
    assert ada is not None
    await rebuilt(sale, ada.ticket_id, found=0)
    [other] = await joined(sale, "ada")
    await show(sale, ada)
    await sale.room.leave(sale.id, other.ticket_id, other.sku)  # the one that answered
    _, again = await sale.ask("ada", key="a-key")
    assert again is not None
    assert (again.ticket_id, again.state) == (ada.ticket_id, "WAITING")
    await rebuilt(sale, epoch=2)
    shown = await show(sale, again)
    assert shown is not None
    assert (shown.ticket_id, shown.state, shown.unseen) == (ada.ticket_id, "WAITING", False)
    assert await sale.admitted() == [ada.ticket_id], "or it would never be its turn"


@pytest.mark.parametrize("parked", [False, True])
async def test_e1_e4_who_never_comes_is_told_the_end_like_everybody(new_sale: NewSale, *, parked: bool) -> None:
    for end in ("sold out", "ended"):
        sale = await new_sale(1)
        tickets = await sale.join(*(f"buyer-{at}" for at in range(5)))
        await rebuilt(sale)
        if parked:
            assert await sale.admitted() == []
            assert await sale.line() == []
        if end == "sold out":
            [cy] = await joined(sale, "cy")
            lease, _ = await sale.admit()
            await sale.reserve(lease, cy.ticket_id)
            await sale.confirm(cy.ticket_id)
            while await sale.sweep(2):
                assert await faults_of(sale) == []
            assert set(await sale.states(*tickets)) == {"SOLD_OUT"}
        else:
            await sale.change("end")
            for _ in range(4):
                await sale.close(2)
                assert await faults_of(sale) == []
            assert set(await sale.states(*tickets)) == {"DECLINED"}


@pytest.mark.parametrize("parked", [False, True])
async def test_s1_a_verdict_and_a_buyer_who_leaves_find_a_ticket_that_is_not_in_line(
    new_sale: NewSale, *, parked: bool
) -> None:
    sale = await new_sale(3)
    ada, bob = await sale.join("ada", "bob")
    await rebuilt(sale)
    if parked:
        assert await sale.admitted() == []
    await sale.confirm_as(ada, units=[1], slots=[1])
    word, _ = await sale.room.leave(sale.id, bob, "seat")
    assert word == "LEFT"
    assert await sale.states(ada, bob) == ["CONFIRMED", "LEFT"]
    assert await faults_of(sale) == []


async def test_p3_nobody_is_admitted_for_a_window_and_a_clock_that_went_back_costs_one_more(new_sale: NewSale) -> None:
    sale = await new_sale(3, rate_per_s=0.5)  # a window of 20 s
    await sale.join("ada")
    seconds, micros = await sale.raw.time()
    now_us = seconds * 1_000_000 + micros
    await sale.raw.hset(sale.keys.meta, "admit_from_us", now_us + 3_600_000_000)
    _, grant = await sale.admit()
    assert (grant.word, grant.ids) == ("NOT_OPEN", [])
    until_us = int(await sale.raw.hget(sale.keys.meta, "admit_from_us")) - now_us
    assert 20_000_000 <= until_us < 60_000_000
    await sale.raw.hset(sale.keys.meta, "admit_from_us", now_us)
    assert len(await sale.admitted()) == 1


async def test_halt_stops_a_sale_that_runs_and_no_other(new_sale: NewSale) -> None:
    sale = await new_sale(3, damaged=True)
    assert await sale.sales.halt(sale.id, "a test wants it")
    assert not await sale.sales.halt(sale.id, "again")
    fence, because = await sale.raw.hmget(sale.keys.meta, "fence", "halted_because")
    assert (fence, because) == (b"halted", b"a test wants it")
