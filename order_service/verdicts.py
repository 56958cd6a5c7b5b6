"""What the writer of orders asks of Postgres and tells it, inside the transaction of its caller: rows in, facts out."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

import asyncpg
import msgspec

from fairline.clock import to_ms
from fairline.events import FailureReason, OrderConfirmed, OrderFailed, OrderPlaced
from order_service.postgres import Connection
from order_service.queries import query

Verdict: TypeAlias = OrderConfirmed | OrderFailed

_INT, _BIGINT = 2**31 - 1, 2**63 - 1
_LONGEST = 128  # letters of an id; what no index takes cannot be kept either


class InTheWayError(Exception):
    """Units of these tickets are not free; what the savepoint wrote is undone."""

    def __init__(self, tickets: Iterable[str]) -> None:
        super().__init__()
        self.tickets = frozenset(tickets)


class KnownSale(msgspec.Struct):
    """What Postgres knows of a sale."""

    epoch: int
    high: dict[str, int]


async def known_sales(connection: Connection, sale_ids: Sequence[str]) -> dict[str, KnownSale]:
    """What is known of these sales, which stays so until the transaction ends; those not known are left out."""
    sales: dict[str, KnownSale] = {}
    for row in await connection.fetch(query("lock_sales"), sale_ids):
        sale = sales.setdefault(row["sale_id"], KnownSale(row["epoch"], {}))
        if row["sku"] is not None:
            sale.high[row["sku"]] = row["high"]
    return sales


async def place(connection: Connection, orders: Sequence[OrderPlaced]) -> dict[str, OrderConfirmed]:
    """Write them as confirmed, in a savepoint; those that had no row. Raises ``InTheWayError``, and undoes it all."""
    async with connection.transaction():
        rows = await connection.fetch(
            query("place_orders"),
            [order.ticket_id for order in orders],
            [order.sale_id for order in orders],
            [order.sku for order in orders],
            [order.buyer_id for order in orders],
            [_array(order.units) for order in orders],
            [_array(order.slots) for order in orders],
            [order.epoch for order in orders],
            [order.arrival for order in orders],
            [order.number for order in orders],
            [order.reserved_at_ms for order in orders],
        )
        halves = [str(row["ticket_id"]) for row in rows if not row["whole"]]
        if halves:
            raise InTheWayError(halves)
    at = {str(row["ticket_id"]): row["decided_at"] for row in rows}
    return {
        order.ticket_id: _confirmed(msgspec.structs.asdict(order), at[order.ticket_id])
        for order in orders
        if order.ticket_id in at
    }


async def unit_is_taken(connection: Connection, order: OrderPlaced) -> bool:
    """Whether one of its serials is sold to somebody, or off sale."""
    taken: bool = await connection.fetchval(query("unit_is_taken"), order.sale_id, order.sku, _array(order.units))
    return taken


async def fail(connection: Connection, order: OrderPlaced, reason: FailureReason) -> Verdict:
    """Write that it failed; what stands in the end. What Postgres cannot keep of the order is left out of the row."""
    row = await connection.fetchrow(
        query("fail_order"),
        order.ticket_id,
        order.sale_id,
        _text(order.sku),
        _text(order.buyer_id),
        reason,
        _array(unit for unit in order.units if abs(unit) <= _INT),
        _array(slot for slot in order.slots if abs(slot) <= _INT),
        *(number if abs(number) <= _BIGINT else None for number in (order.epoch, order.arrival, order.number)),
        order.reserved_at_ms if 0 <= order.reserved_at_ms < 2**42 else None,
    )
    if row is None:
        return (await stored_verdicts(connection, [order.ticket_id]))[order.ticket_id]
    return _failed(msgspec.structs.asdict(order), reason, row["decided_at"])


async def stored_verdicts(connection: Connection, tickets: Sequence[str]) -> dict[str, Verdict]:
    """The verdicts that these tickets have, as they were told the first time."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(query("stored_verdicts"), tickets) if tickets else ()
    return {str(row["ticket_id"]): _verdict(row) for row in rows}


def _verdict(row: asyncpg.Record) -> Verdict:
    if row["verdict"] == "confirmed":
        return _confirmed(dict(row), row["decided_at"])
    return _failed(dict(row), row["reason"], row["decided_at"])


def _confirmed(of: Mapping[str, Any], at: datetime) -> OrderConfirmed:
    return OrderConfirmed(**_common(of), decided_at_ms=to_ms(at))


def _failed(of: Mapping[str, Any], reason: FailureReason, at: datetime) -> OrderFailed:
    return OrderFailed(**_common(of), reason=reason, decided_at_ms=to_ms(at))


def _common(of: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sale_id": of["sale_id"],
        "ticket_id": str(of["ticket_id"]),
        "sku": of["sku"],
        "buyer_id": of["buyer_id"],
        "units": tuple(of["units"]),
        "slots": tuple(of["slots"]),
    }


def _array(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


def _text(text: str) -> str:
    return text[:_LONGEST].replace("\x00", "\ufffd")
