"""Many callers at once: what the totals are, whoever was first (invariants 1, 6, 7, rule L1)."""

import asyncio
import itertools
import secrets
from collections import Counter

import msgspec

from fairline.events import OrderPlaced
from fairline.store.scripts import TicketRecord
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver


async def test_forty_joins_of_forty_buyers_at_once_get_forty_places(new_sale: NewSale) -> None:
    sale = await new_sale(10)
    answers = await asyncio.gather(*(sale.ask(f"buyer-{n}") for n in range(40)))
    assert Counter(word for word, _ in answers) == {"JOINED": 40}
    assert sorted(ticket.arrival for _, ticket in answers if ticket) == list(range(1, 41))
    assert sorted(ticket.number for _, ticket in answers if ticket) == list(range(1, 41))


async def test_forty_joins_of_one_buyer_at_once_make_one_ticket(new_sale: NewSale) -> None:
    sale = await new_sale(10)
    answers = await asyncio.gather(*(sale.ask("ada", key=f"key-{n % 20}" if n < 30 else None) for n in range(40)))
    words = Counter(word for word, _ in answers)
    assert words["JOINED"] == 1
    assert set(words) <= {"JOINED", "SAME", "LIVE"}
    assert len({ticket.ticket_id for _, ticket in answers if ticket}) == 1
    assert await sale.count("joined") == 1


async def test_7_a_buyer_who_joins_and_buys_forty_times_at_once_holds_no_more_than_the_limit(
    new_sale: NewSale,
) -> None:
    sale = await new_sale(40, per_buyer_limit=3)

    async def buy(n: int) -> None:
        word, ticket = await sale.ask("ada", quantity=1 + n % 3)
        lease, grant = await sale.admit(5)
        await sale.reserve(lease, *grant.ids)
        if ticket is not None and word == "JOINED":
            await (sale.confirm if n % 4 else sale.release)(*grant.ids)

    await asyncio.gather(*(buy(n) for n in range(40)))
    held = await sale.raw.hvals(sale.keys.held)
    assert len(held) <= 1, "one buyer; the slots are compared with the tickets after the test"


async def _controller(sale: SaleDriver, seen: list[list[str]], over: asyncio.Event) -> None:
    """Admit and reserve until told otherwise; now and then forget what was admitted, decline, or give back."""
    turn = 0
    while not over.is_set():
        turn += 1
        lease, grant = await sale.admit(7)
        assert grant.in_flight <= 10
        if not grant.ids:
            continue  # asked for again, a lease that was given to nobody may well be given to somebody
        seen.append(grant.ids)
        assert (await sale.admit(7, lease=lease))[1].ids == grant.ids, "L1, also while the other one admits"
        undecided = len(grant.ids) // 3
        first, rest = grant.ids[:undecided], grant.ids[undecided:]
        await (sale.give_back if turn % 3 else sale.decline)(lease, *first)
        words = await sale.reserve(lease, *rest)
        assert set(words) <= {"RESERVED"}
        await sale.reserve(lease, *rest)


async def test_1_6_two_controllers_at_once_admit_nobody_twice_and_never_exceed_capacity_or_stock(
    new_sale: NewSale,
) -> None:
    sale = await new_sale(100, capacity=10, per_buyer_limit=2)
    for n in range(400):  # six times what there is, so that the declined do not use up the line
        await sale.join(f"buyer-{n}", quantity=1 + n % 2)
    over, seen = asyncio.Event(), list[list[str]]()

    async def postgres() -> None:
        """Confirms what is reserved, and refuses every fifth, until the last unit is sold."""
        verdicts = itertools.count(1)
        while await sale.outlook() != "sold_out":
            for each in await sale.raw.zrange(sale.keys.reserved, 0, 9):
                await (sale.confirm if next(verdicts) % 5 else sale.release)(each.decode())
            assert (await sale.stats()).in_flight <= 10
        over.set()

    await asyncio.gather(_controller(sale, seen, over), _controller(sale, seen, over), postgres())
    assert await sale.count("CONFIRMED") > 50
    sold = [unit for each in await _records(sale) if each.state == "CONFIRMED" for unit in each.units]
    assert sorted(sold) == list(range(1, 101))
    orders = [fact for fact in await sale.relay() if isinstance(fact, OrderPlaced)]
    assert max(Counter(order.ticket_id for order in orders).values()) == 1, "one order a ticket (V1)"
    await sale.sweep()
    assert (await sale.count("WAITING"), await sale.count("ADMITTED")) == (0, 0)


async def _records(sale: SaleDriver) -> list[TicketRecord]:
    return [msgspec.msgpack.decode(each, type=TicketRecord) for each in await sale.raw.hvals(sale.keys.tickets)]


async def test_l1_the_same_lease_asked_for_by_twenty_calls_at_once_is_granted_once(new_sale: NewSale) -> None:
    sale = await new_sale(50)
    await sale.join(*(f"buyer-{n}" for n in range(50)))
    lease = secrets.token_hex(8)
    grants = await asyncio.gather(*(sale.admit(10, lease=lease) for _ in range(20)))
    assert len({tuple(grant.ids) for _, grant in grants}) == 1
    assert await sale.count("ADMITTED") == 10


async def test_s1_forty_verdicts_of_both_kinds_at_once_settle_a_ticket_once(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.reserved("ada")
    replies = await asyncio.gather(
        *(sale.confirm_as(ada, units=[1], slots=[1]) if n % 2 else sale.release(ada) for n in range(40))
    )
    assert sum(reply.count for reply in replies) == 1
    assert await sale.count("CONFIRMED") + await sale.count("RELEASED") == 1
