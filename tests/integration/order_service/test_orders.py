"""Verdicts on a real Postgres: rules V1 to V4 and V7, each in a test named after it."""

import asyncio
import random

import asyncpg
import pytest

from fairline.errors import UnavailableError
from fairline.events import OrderConfirmed, OrderFailed
from order_service.handling import Done
from order_service.postgres import RefusedError
from tests.support.orders import Desk, a_sale_id, order, record, sale, words


@pytest.fixture
async def sale_id(desk: Desk) -> str:
    """A sale of ten seats, two a buyer."""
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    return sale_id


async def test_v1_an_order_gets_one_row_and_its_repeats_the_same_verdict(desk: Desk, sale_id: str) -> None:
    mine = order(sale_id)
    (first,) = await desk.decide(mine)
    (second,) = await desk.decide(mine)
    assert words([first]) == ["confirmed"]
    assert first == second
    assert await desk.sold(sale_id) == [(1, "ada-1")]


async def test_v1_the_first_verdict_stays_whatever_the_repeat_says(desk: Desk, sale_id: str) -> None:
    mine = order(sale_id)
    await desk.decide(mine)
    other = order(sale_id, 2, ticket_id=mine.ticket_id)
    (told,) = await desk.decide(other)
    assert isinstance(told, Done)
    (fact,) = told.facts
    assert isinstance(fact, OrderConfirmed)
    assert fact.units == (1,)
    assert await desk.sold(sale_id) == [(1, "ada-1")]


async def test_v1_a_failed_order_stays_failed_when_its_unit_is_free_again(desk: Desk, sale_id: str) -> None:
    mine = order(sale_id)
    assert words([await desk.orders.give_up(record(mine))]) == ["not_writable"]
    assert words(await desk.decide(mine)) == ["not_writable"]
    assert await desk.sold(sale_id) == []


async def test_v2_a_failed_order_holds_neither_unit_nor_slot(desk: Desk, sale_id: str) -> None:
    await desk.orders.give_up(record(order(sale_id)))
    assert words(await desk.decide(order(sale_id))) == ["confirmed"]


async def test_v3_a_unit_is_sold_once(desk: Desk, sale_id: str) -> None:
    first, second = order(sale_id, 1), order(sale_id, 1, buyer_id="bob")
    assert words(await desk.decide(first)) == ["confirmed"]
    assert words(await desk.decide(second)) == ["unit_taken"]
    assert await desk.verdict(second.ticket_id) == "unit_taken"
    assert await desk.history(second.ticket_id) == "RELEASED unit_taken"


async def test_v3_a_buyer_has_each_slot_once(desk: Desk, sale_id: str) -> None:
    first, second = order(sale_id, 1, buyer_id="bob"), order(sale_id, 2, buyer_id="bob")
    assert words(await desk.decide(first)) == ["confirmed"]
    assert words(await desk.decide(second)) == ["already_bought"]


async def test_v3_in_one_batch_those_in_the_way_are_decided_alone_and_refuse_nobody(desk: Desk, sale_id: str) -> None:
    # b wants units 2 and 3, of which a has 2: b fails whole, and its other unit goes to c.
    a = order(sale_id, 1, units=(1, 2), slots=(1, 2), ticket_id="00000000-0000-4000-8000-" + _twelve(), buyer_id="a")
    b = order(sale_id, 2, units=(2, 3), slots=(1, 2), ticket_id="55555555-0000-4000-8000-" + _twelve(), buyer_id="b")
    c = order(sale_id, 3, units=(3,), ticket_id="aaaaaaaa-0000-4000-8000-" + _twelve(), buyer_id="c")
    good = [order(sale_id, number) for number in range(4, 11)]
    told = await desk.decide(*good[:3], c, b, a, *good[3:])
    assert words(told) == ["confirmed"] * 4 + ["unit_taken"] + ["confirmed"] * 5
    assert [unit for unit, _ in await desk.sold(sale_id)] == list(range(1, 11))
    rows = await desk.fetch("SELECT FROM order_units WHERE ticket_id = $1", b.ticket_id)
    assert rows == []


async def test_v3_of_those_that_are_decided_alone_the_earlier_in_line_comes_first(desk: Desk, sale_id: str) -> None:
    # Only a is not in the way of another one, and each of the others in that of the next: b fails, so that c need not.
    a, b, c, d = (
        order(sale_id, number, units=units, slots=(1, 2)[: len(units)])
        for number, units in enumerate([(1,), (1, 2), (2, 3), (3, 4)], 1)
    )
    assert words(await desk.decide(d, c, b, a)) == ["unit_taken", "confirmed", "unit_taken", "confirmed"]
    assert await desk.sold(sale_id) == [(1, "ada-1"), (2, "ada-3"), (3, "ada-3")]


async def test_v3_the_same_ticket_twice_in_a_batch_is_told_once(desk: Desk, sale_id: str) -> None:
    mine = order(sale_id)
    assert words(await desk.decide(mine, mine)) == ["confirmed", "nothing"]


async def test_v3_several_units_are_written_as_a_whole(desk: Desk, sale_id: str) -> None:
    mine = order(sale_id, units=(4, 7), slots=(1, 2))
    (told,) = await desk.decide(mine)
    assert isinstance(told, Done)
    (fact,) = told.facts
    assert isinstance(fact, OrderConfirmed)
    assert (fact.units, fact.slots) == ((4, 7), (1, 2))
    assert await desk.sold(sale_id) == [(4, "ada-1"), (7, "ada-1")]


async def test_v4_a_failure_is_told_with_the_row_that_says_so(desk: Desk, sale_id: str) -> None:
    await desk.decide(order(sale_id))
    late = order(sale_id, buyer_id="bob")
    (told,) = await desk.decide(late)
    rows = await desk.fetch("SELECT decided_at FROM orders WHERE ticket_id = $1", late.ticket_id)
    assert isinstance(told, Done)
    (fact,) = told.facts
    assert isinstance(fact, OrderFailed)
    assert fact.decided_at_ms == round(rows[0]["decided_at"].timestamp() * 1000)


async def test_v4_whatever_cannot_be_written_of_an_order_its_failure_can(desk: Desk, sale_id: str) -> None:
    odd = order(
        sale_id, buyer_id="nul\0", sku="\0", units=(2**70,), slots=(-(2**40),), number=2**80, reserved_at_ms=-(2**80)
    )
    with pytest.raises(RefusedError):
        await desk.decide(odd)
    (told,) = [await desk.orders.give_up(record(odd))]
    assert words([told]) == ["not_writable"]
    assert await desk.verdict(odd.ticket_id) == "not_writable"


@pytest.mark.parametrize(
    "wrong",
    [
        {"units": ()},
        {"units": (0,)},
        {"units": (-1,)},
        {"units": (1, 1), "slots": (1, 2)},
        {"units": (1, 2), "slots": (1,)},
        {"units": (1, 2), "slots": (1, 1)},
        {"slots": (0,)},
        {"slots": (3,)},
        {"sku": "no-such-thing"},
        {"buyer_id": "a\0b"},
        {"epoch": 0, "arrival": 2**70},
        {"units": (1,) * 3, "slots": (1, 2, 3)},
    ],
    ids=repr,
)
async def test_v6_what_the_schema_refuses_is_refused_and_nothing_of_it_stays(
    desk: Desk, sale_id: str, wrong: dict[str, object]
) -> None:
    bad, good = order(sale_id, 1, **wrong), order(sale_id, 2)
    with pytest.raises(RefusedError):
        await desk.decide(good, bad)
    assert await desk.verdict(good.ticket_id) is None
    assert await desk.sold(sale_id) == []


async def test_v6_an_unknown_sale_is_later_and_the_others_of_the_batch_go_on(desk: Desk, sale_id: str) -> None:
    soon = a_sale_id()
    waiting, good = order(soon), order(sale_id)
    assert words(await desk.decide(waiting, good)) == ["wait", "confirmed"]
    assert words([await desk.orders.give_up(record(waiting))]) == ["wait"]
    await desk.know(sale(soon))
    assert words(await desk.decide(waiting)) == ["confirmed"]


async def test_v6_a_serial_above_what_is_known_is_later(desk: Desk, sale_id: str) -> None:
    mine = order(sale_id, 11)
    assert words(await desk.decide(mine)) == ["wait"]
    await desk.know(sale(sale_id, version=2, stock=11))
    assert words(await desk.decide(mine)) == ["confirmed"]


async def test_v6_an_epoch_not_known_yet_is_later(desk: Desk, sale_id: str) -> None:
    mine = order(sale_id, epoch=1)
    assert words(await desk.decide(mine)) == ["wait"]
    await desk.know(sale(sale_id, version=2, epoch=1))
    assert words(await desk.decide(mine)) == ["confirmed"]


async def test_v7_an_older_epoch_without_a_row_is_passed_over_in_silence(desk: Desk, sale_id: str) -> None:
    with_row, without = order(sale_id, 1), order(sale_id, 2)
    await desk.decide(with_row)
    await desk.know(sale(sale_id, version=2, epoch=1))
    assert words(await desk.decide(with_row, without)) == ["confirmed", "nothing"]
    assert words([await desk.orders.give_up(record(without))]) == ["nothing"]
    assert await desk.verdict(without.ticket_id) is None
    # Sent again with today's epoch it is an order like any other.
    again = order(sale_id, 2, ticket_id=without.ticket_id, epoch=1)
    assert sorted(words(await desk.decide(without, again))) == ["confirmed", "nothing"]


async def test_v1_what_is_given_up_of_a_ticket_that_has_a_verdict_tells_that_again(desk: Desk, sale_id: str) -> None:
    mine = order(sale_id)
    assert words(await desk.decide(mine)) == ["confirmed"]
    assert words([await desk.orders.give_up(record(mine))]) == ["confirmed"]
    await desk.execute("UPDATE sales SET epoch = 1 WHERE sale_id = $1", sale_id)
    assert words([await desk.orders.give_up(record(mine))]) == ["confirmed"]
    assert await desk.verdict(mine.ticket_id) == "confirmed"


async def test_no_readable_ticket_means_no_verdict(desk: Desk, sale_id: str) -> None:
    for bad in (order(sale_id, ticket_id="nobody"), order("No Sale"), order(sale_id, ticket_id="A" * 8)):
        assert desk.orders.fault(record(bad))
        assert words([await desk.orders.give_up(record(bad))]) == ["nothing"]
    assert words([await desk.orders.give_up(record(b"{]"))]) == ["nothing"]
    assert words([await desk.orders.give_up(record(b'["a list"]'))]) == ["nothing"]


async def test_of_an_unreadable_order_with_a_readable_ticket_the_failure_is_told(desk: Desk, sale_id: str) -> None:
    ticket = order(sale_id).ticket_id
    value = f'{{"type": "order.placed.v1", "sale_id": "{sale_id}", "ticket_id": "{ticket}", "units": "many"}}'
    (told,) = [await desk.orders.give_up(record(value.encode()))]
    assert words([told]) == ["not_writable"]
    assert await desk.history(ticket) == "RELEASED not_writable"


async def test_v6_a_connection_that_was_left_in_the_middle_is_later_and_not_the_end_of_the_process(desk: Desk) -> None:
    with pytest.raises(UnavailableError, match="another operation"):
        async with desk.postgres.transaction():
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
    async with desk.postgres.connection() as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_forty_writers_at_once_sell_each_unit_once_and_agree(desk: Desk, sale_id: str) -> None:
    orders = [order(sale_id, 1 + number % 10, buyer_id=f"buyer-{number % 20}") for number in range(30)]

    async def write() -> dict[str, str]:
        mine = random.sample(orders, len(orders))
        while True:
            try:
                return dict(zip([one.ticket_id for one in mine], words(await desk.decide(*mine)), strict=True))
            except Exception as error:  # noqa: BLE001 - a deadlock is *later*: the batch comes again
                assert "Deadlock" in repr(error), error  # noqa: PT017 - any other error is one

    said = await asyncio.gather(*(write() for _ in range(40)))
    assert all(one == said[0] for one in said)
    assert sorted(unit for unit, _ in await desk.sold(sale_id)) == list(range(1, 11))
    assert sum(word == "confirmed" for word in said[0].values()) == 10


def _twelve() -> str:
    return f"{random.getrandbits(48):012x}"
