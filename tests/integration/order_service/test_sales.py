"""What Postgres takes over of a sale, and what it answers (O4, U3)."""

import msgspec
import pytest

from fairline.errors import UnavailableError
from fairline.events import SaleApplied
from order_service.handling import Done, Outcome
from order_service.postgres import RefusedError
from tests.support.orders import TOO_LONG, Desk, a_sale_id, order, record, sale, words


def answers(outcomes: list[Outcome]) -> list[tuple[int, int] | None]:
    """Version and epoch of each answer."""
    found: list[tuple[int, int] | None] = []
    for outcome in outcomes:
        assert isinstance(outcome, Done)
        facts = [fact for fact in outcome.facts if isinstance(fact, SaleApplied)]
        found.append((facts[0].version, facts[0].epoch) if facts else None)
    return found


async def stock(desk: Desk, sale_id: str) -> tuple[int, int]:
    (row,) = await desk.fetch("SELECT stock, high FROM items WHERE sale_id = $1", sale_id)
    return row["stock"], row["high"]


async def test_o4_a_new_sale_is_taken_over_and_answered(desk: Desk) -> None:
    sale_id = a_sale_id()
    assert answers(await desk.know(sale(sale_id))) == [(1, 0)]
    assert await stock(desk, sale_id) == (10, 10)


async def test_an_older_version_changes_nothing_and_is_answered_with_the_one_known(desk: Desk) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id, version=3, stock=12))
    assert answers(await desk.know(sale(sale_id, version=2, stock=99))) == [(3, 0)]
    assert await stock(desk, sale_id) == (12, 12)


async def test_the_same_version_again_is_answered_again(desk: Desk) -> None:
    sale_id = a_sale_id()
    change = sale(sale_id)
    assert answers(await desk.know(change)) == answers(await desk.know(change)) == [(1, 0)]


async def test_a_version_of_an_older_epoch_is_not_taken_over(desk: Desk) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id, version=1, epoch=1))
    assert answers(await desk.know(sale(sale_id, version=2, stock=99))) == [(1, 1)]
    assert await stock(desk, sale_id) == (10, 10)


async def test_of_several_changes_in_a_batch_the_last_is_answered(desk: Desk) -> None:
    sale_id, other = a_sale_id(), a_sale_id()
    changes = (sale(sale_id), sale(other), sale(sale_id, version=2, stock=20))
    assert answers(await desk.know(*changes)) == [None, (1, 0), (2, 0)]
    assert await stock(desk, sale_id) == (20, 20)


async def test_each_version_has_a_row_of_history_the_first_that_came(desk: Desk) -> None:
    sale_id = a_sale_id()
    await desk.know(
        sale(sale_id, action="create"), sale(sale_id, action="again"), sale(sale_id, version=2, action="open")
    )
    rows = await desk.fetch("SELECT version, action FROM sale_history WHERE sale_id = $1 ORDER BY version", sale_id)
    assert [tuple(row) for row in rows] == [(1, "create"), (2, "open")]


async def test_2_another_sale_of_the_same_id_is_not_taken_over_but_answered_with_when_the_known_one_was_created(
    desk: Desk,
) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id, version=2, created_at_ms=1_000))
    [outcome] = await desk.know(sale(sale_id, version=3, stock=99, created_at_ms=2_000))
    assert isinstance(outcome, Done)
    [answer] = outcome.facts
    assert isinstance(answer, SaleApplied)
    assert (answer.version, answer.created_at_ms) == (2, 1_000)
    assert await stock(desk, sale_id) == (10, 10)
    rows = await desk.fetch("SELECT version FROM sale_history WHERE sale_id = $1", sale_id)
    assert [row["version"] for row in rows] == [2]
    assert answers(await desk.know(sale(sale_id, version=3, created_at_ms=1_000))) == [(3, 0)]


async def test_a_change_that_does_not_say_when_its_sale_was_created_is_taken_over_and_so_is_one_after_it(
    desk: Desk,
) -> None:
    sale_id = a_sale_id()
    for version, created_at_ms in enumerate((None, 1_000, None, 2_000), 1):
        [outcome] = await desk.know(sale(sale_id, version=version, created_at_ms=created_at_ms))
        assert isinstance(outcome, Done)
        [answer] = outcome.facts
        assert isinstance(answer, SaleApplied)
        assert (answer.version, answer.created_at_ms) == (version, created_at_ms)


async def test_u3_withdrawn_serials_cannot_be_sold_and_come_back_when_named_no_more(desk: Desk) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    await desk.know(sale(sale_id, version=2, stock=8, item={"high": 10, "withdrawn": (3, 7)}))
    assert words(await desk.decide(order(sale_id, 3))) == ["unit_taken"]
    assert await desk.sold(sale_id) == []
    await desk.know(sale(sale_id, version=3, stock=9, item={"high": 10, "withdrawn": (7,)}))
    assert words(await desk.decide(order(sale_id, 3))) == ["confirmed"]


async def test_1_what_is_sold_stays_sold_whatever_is_changed(desk: Desk) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    assert words(await desk.decide(order(sale_id))) == ["confirmed"]
    await desk.know(sale(sale_id, version=2, stock=12))
    assert await desk.sold(sale_id) == [(1, "ada-1")]
    assert words(await desk.decide(order(sale_id, buyer_id="bob"))) == ["unit_taken"]


async def test_u3_what_is_sold_cannot_be_withdrawn(desk: Desk) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    await desk.decide(order(sale_id, 3))
    for impossible in (
        sale(sale_id, version=2, stock=9, item={"high": 10, "withdrawn": (3,)}),
        sale(sale_id, version=2, stock=2),
    ):
        with pytest.raises(RefusedError):
            await desk.know(impossible)
    assert await desk.sold(sale_id) == [(3, "ada-3")]
    assert await stock(desk, sale_id) == (10, 10)


async def test_v6_items_that_postgres_could_only_call_later_are_a_dead_letter(desk: Desk) -> None:
    good = sale(a_sale_id())
    assert desk.sales.fault(record(good)) is None
    twice = msgspec.structs.replace(good, items=good.items * 2)
    assert desk.sales.fault(record(twice)) == "it has a sku twice"
    endless = sale(good.sale_id, item={"sku": TOO_LONG})
    assert desk.sales.fault(record(endless)) == "a sku of it is none"
    for bad in (twice, endless):
        with pytest.raises(UnavailableError):
            await desk.know(bad)
