"""What tests of the order service share: orders, sales, a schema, records as Kafka gives them."""

import itertools
import random
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg

from fairline import events
from fairline.clock import now_ms
from fairline.events import ItemState, OrderPlaced, SaleChanged
from fairline.runtime.metrics import Metrics
from fairline.stream.reader import Record
from order_service.handling import Done, Outcome
from order_service.orders import Orders
from order_service.postgres import Postgres
from order_service.sales import Sales
from order_service.settings import OrderServiceSettings

_offsets = itertools.count()
NOWHERE = "127.0.0.1:1"
TOO_LONG = random.Random(1).randbytes(20_000).hex()  # for any index of Postgres, compressed too


def a_sale_id() -> str:
    """A readable name that no other test has."""
    return f"{random.choice(('spring', 'summer', 'autumn', 'winter'))}-{uuid.uuid4().hex[:12]}"


def settings(dsn: str, *, kafka: str = NOWHERE, **more: object) -> OrderServiceSettings:
    """Of an order service that backs off quickly."""
    quick = {"backoff_ms": 10, "longest_backoff_ms": 50, "poll_ms": 200, "publish_timeout_ms": 10_000} | more
    return OrderServiceSettings.model_validate(
        {"FAIRLINE_POSTGRES_DSN": dsn, "FAIRLINE_KAFKA": kafka}
        | {f"FAIRLINE_ORDER_SERVICE_{name.upper()}": value for name, value in quick.items()}
    )


def order(sale_id: str, number: int = 1, **more: Any) -> OrderPlaced:
    """A good order of one unit: of the serial ``number``, by a buyer of its own."""
    given: dict[str, Any] = {
        "ticket_id": str(uuid.uuid4()),
        "sku": "seat",
        "buyer_id": f"ada-{number}",
        "units": (number,),
        "slots": (1,),
        "epoch": 0,
        "arrival": number,
        "number": number,
        "reserved_at_ms": now_ms(),
    }
    return OrderPlaced(sale_id=sale_id, **(given | more))


def sale(sale_id: str, *, version: int = 1, stock: int = 10, **more: Any) -> SaleChanged:
    """A sale of one item, as an operator changed it."""
    item: dict[str, Any] = {"sku": "seat", "name": "Seat", "stock": stock, "high": stock, "version": version}
    item |= more.pop("item", {})
    given: dict[str, Any] = {
        "epoch": 0,
        "action": "create",
        "reason": "",
        "state": "open",
        "name": "A sale",
        "per_buyer_limit": 2,
        "message": "",
        "when_sold_out": "close_line",
        "validator": "{}",
        "items": (ItemState(**item),),
        "at_ms": now_ms(),
    }
    return SaleChanged(sale_id=sale_id, version=version, **(given | more))


def record(fact: events.AnyFact | bytes, *, key: bytes | None = b"key", topic: str = "t") -> Record:
    """A record as the reader gives it; bytes are what is no fact."""
    if isinstance(fact, bytes):
        return Record(topic, 0, next(_offsets), key, fact, (), None, "not a fact")
    return Record(topic, 0, next(_offsets), fact.key.encode(), events.encode(fact), (), fact)


class Desk:
    """The handlers on a Postgres, without Kafka."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.postgres = Postgres(settings(dsn), "test")
        self.orders = Orders(self.postgres, Metrics())
        self.sales = Sales(self.postgres)

    async def know(self, *changes: SaleChanged) -> list[Outcome]:
        """Take these changes over."""
        return await self.sales.write([record(change) for change in changes])

    async def decide(self, *orders: OrderPlaced) -> list[Outcome]:
        """Write these orders as one batch."""
        return await self.orders.write([record(one) for one in orders])

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Ask Postgres directly."""
        async with self.postgres.connection() as connection:
            return list(await connection.fetch(sql, *arguments))

    async def execute(self, sql: str, *arguments: object) -> None:
        """Tell Postgres directly; its errors come as they are."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(sql, *arguments)
        finally:
            await connection.close()

    async def sold(self, sale_id: str) -> list[tuple[int, str]]:
        """Serials and buyers."""
        rows = await self.fetch("SELECT unit, buyer_id FROM sold WHERE sale_id = $1 ORDER BY unit", sale_id)
        return [(row["unit"], row["buyer_id"]) for row in rows]

    async def verdict(self, ticket_id: str) -> str | None:
        """``confirmed``, the reason of a failure, or nothing."""
        rows = await self.fetch("SELECT verdict, reason FROM orders WHERE ticket_id = $1", ticket_id)
        return (rows[0]["reason"] or rows[0]["verdict"]) if rows else None

    async def history(self, ticket_id: str) -> str | None:
        """The outcome in the history of a ticket, with its reason."""
        rows = await self.fetch("SELECT outcome, reason FROM ticket_history WHERE ticket_id = $1", ticket_id)
        return f"{rows[0]['outcome']} {rows[0]['reason']}".strip() if rows else None


def words(outcomes: Sequence[Outcome]) -> list[str]:
    """What was told: ``confirmed``, a reason, ``nothing``, or ``wait``."""
    return [_word(outcome) for outcome in outcomes]


def _word(outcome: Outcome) -> str:
    if not isinstance(outcome, Done):
        return "wait"
    if not outcome.facts:
        return "nothing"
    (fact,) = outcome.facts
    return "confirmed" if isinstance(fact, events.OrderConfirmed) else str(getattr(fact, "reason", type(fact).__name__))
