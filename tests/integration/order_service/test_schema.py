"""The schema refuses by itself, whoever writes: too much, too many, twice, withdrawn, changed afterwards."""

import uuid

import asyncpg
import pytest

from tests.support.orders import Desk, a_sale_id, order, sale

ORDER = """
INSERT INTO orders (ticket_id, sale_id, sku, buyer_id, verdict, reason, units, slots, epoch, arrival, number,
                    reserved_at, decided_at)
VALUES ($1, $2, 'seat', $3, $4, $5, $6, $7, 0, 1, 1, now(), now())
"""
UNIT = "INSERT INTO order_units (sale_id, sku, unit, ticket_id, buyer_id, slot) VALUES ($1, 'seat', $2, $3, $4, $5)"


class Raw:
    """Writes rows as a careless program would."""

    def __init__(self, desk: Desk, sale_id: str) -> None:
        self.desk = desk
        self.sale_id = sale_id

    async def order(
        self,
        units: list[int],
        slots: list[int],
        *,
        buyer_id: str = "ada",
        verdict: str = "confirmed",
        reason: str | None = None,
    ) -> uuid.UUID:
        ticket_id = uuid.uuid4()
        await self.desk.execute(ORDER, ticket_id, self.sale_id, buyer_id, verdict, reason, units, slots)
        return ticket_id

    async def unit(self, unit: int, ticket_id: uuid.UUID, slot: int, *, buyer_id: str = "ada") -> None:
        await self.desk.execute(UNIT, self.sale_id, unit, ticket_id, buyer_id, slot)


@pytest.fixture
async def raw(desk: Desk) -> Raw:
    """A sale of two seats, two a buyer."""
    sale_id = a_sale_id()
    await desk.know(sale(sale_id, stock=2))
    return Raw(desk, sale_id)


async def test_a_good_order_is_taken(raw: Raw) -> None:
    ticket = await raw.order([1, 2], [1, 2])
    await raw.unit(1, ticket, 1)
    await raw.unit(2, ticket, 2)
    assert await raw.desk.sold(raw.sale_id) == [(1, "ada"), (2, "ada")]


@pytest.mark.parametrize("unit", [0, -1, 3])
async def test_invariant_1_no_unit_that_is_not_on_sale(raw: Raw, unit: int) -> None:
    ticket = await raw.order([unit], [1])
    with pytest.raises(asyncpg.CheckViolationError):
        await raw.unit(unit, ticket, 1)


async def test_invariant_1_no_unit_twice(raw: Raw) -> None:
    await raw.unit(1, await raw.order([1], [1]), 1)
    other = await raw.order([1], [1], buyer_id="bob")
    with pytest.raises(asyncpg.UniqueViolationError):
        await raw.unit(1, other, 1, buyer_id="bob")


async def test_invariant_1_no_unit_that_was_withdrawn(raw: Raw) -> None:
    await raw.desk.know(sale(raw.sale_id, version=2, stock=1, item={"high": 2, "withdrawn": (1,)}))
    ticket = await raw.order([1], [1])
    with pytest.raises(asyncpg.UniqueViolationError):
        await raw.unit(1, ticket, 1)


@pytest.mark.parametrize("slot", [0, 3])
async def test_invariant_7_no_slot_above_the_limit(raw: Raw, slot: int) -> None:
    ticket = await raw.order([1], [slot])
    with pytest.raises(asyncpg.CheckViolationError):
        await raw.unit(1, ticket, slot)


async def test_invariant_7_no_slot_of_a_buyer_twice(raw: Raw) -> None:
    await raw.unit(1, await raw.order([1], [1]), 1)
    other = await raw.order([2], [1])
    with pytest.raises(asyncpg.UniqueViolationError):
        await raw.unit(2, other, 1)


async def test_only_a_confirmed_order_sells_and_only_what_it_says(raw: Raw) -> None:
    failed = await raw.order([1], [1], verdict="failed", reason="unit_taken")
    confirmed = await raw.order([1], [1])
    for ticket, unit, slot, buyer in ((failed, 1, 1, "ada"), (confirmed, 2, 1, "ada"), (confirmed, 1, 1, "eve")):
        with pytest.raises(asyncpg.CheckViolationError):
            await raw.unit(unit, ticket, slot, buyer_id=buyer)
    with pytest.raises(asyncpg.PostgresError):
        await raw.unit(1, uuid.uuid4(), 1)


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [("failed", None), ("confirmed", "unit_taken"), ("failed", "bad_mood"), ("perhaps", None)],
)
async def test_a_verdict_is_one_of_two_and_a_failure_has_a_known_reason(
    raw: Raw, verdict: str, reason: str | None
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await raw.order([1], [1], verdict=verdict, reason=reason)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE orders SET verdict = 'failed', reason = 'cancelled' WHERE ticket_id = $1",
        "DELETE FROM orders WHERE ticket_id = $1",
        "UPDATE order_units SET buyer_id = 'eve' WHERE ticket_id = $1",
        "DELETE FROM order_units WHERE ticket_id = $1",
    ],
)
async def test_v1_rows_of_orders_and_of_what_they_sold_are_final(raw: Raw, statement: str) -> None:
    ticket = await raw.order([1], [1])
    await raw.unit(1, ticket, 1)
    with pytest.raises(asyncpg.RestrictViolationError):
        await raw.desk.execute(statement, ticket)


@pytest.mark.parametrize("table", ["orders", "order_units"])
async def test_v1_the_tables_cannot_be_emptied(raw: Raw, table: str) -> None:
    with pytest.raises(asyncpg.RestrictViolationError):
        await raw.desk.execute(f"TRUNCATE {table} CASCADE")


async def test_stock_does_not_shrink_below_what_is_sold(raw: Raw) -> None:
    await raw.unit(2, await raw.order([2], [1]), 1)
    with pytest.raises(asyncpg.CheckViolationError):
        await raw.desk.execute("UPDATE items SET high = 1, stock = 1 WHERE sale_id = $1", raw.sale_id)


async def test_stock_is_what_may_be_sold(raw: Raw) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await raw.desk.execute("UPDATE items SET stock = 1 WHERE sale_id = $1", raw.sale_id)


@pytest.mark.parametrize("change", ["epoch = -1", "version = 0", "per_buyer_limit = 1"])
async def test_what_is_known_of_a_sale_never_goes_back(raw: Raw, change: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await raw.desk.execute(f"UPDATE sales SET {change} WHERE sale_id = $1", raw.sale_id)  # noqa: S608 - a constant


async def test_the_view_sold_has_a_row_for_each_unit_and_the_columns_it_promises(desk: Desk) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    mine = order(sale_id, units=(2, 5), slots=(1, 2))
    await desk.decide(mine)
    rows = await desk.fetch("SELECT * FROM sold WHERE sale_id = $1 ORDER BY unit", sale_id)
    assert list(rows[0].keys()) == ["sale_id", "sku", "unit", "buyer_id", "ticket_id", "confirmed_at"]
    assert [row["unit"] for row in rows] == [2, 5]
    assert {str(row["ticket_id"]) for row in rows} == {mine.ticket_id}
