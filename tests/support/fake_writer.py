"""A stand-in for order_service: reads orders and sales off Kafka, and answers as Postgres would, out of a dictionary.

First verdict wins (V1), no unit is sold twice (V2), and a redelivered order gets the verdict it had.
"""

import asyncio
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from fairline.clock import now_ms
from fairline.events import (
    ORDERS,
    SALES,
    Fact,
    FailureReason,
    OrderConfirmed,
    OrderFailed,
    OrderPlaced,
    SaleApplied,
    SaleChanged,
)
from fairline.runtime.services import cancelled
from fairline.stream.reader import EventReader, Record
from fairline.stream.writer import EventWriter

Decide = Callable[[OrderPlaced], FailureReason | Literal[""]]


def confirm(_: OrderPlaced) -> Literal[""]:
    """Write every order."""
    return ""


class FakeWriter:
    """Answers for some sales only, because tests share one Kafka."""

    def __init__(self, kafka: str, *sale_ids: str, decide: Decide = confirm) -> None:
        self.sale_ids = set(sale_ids)
        self.decide = decide
        self.verdicts: dict[str, OrderConfirmed | OrderFailed] = {}
        self.sold: dict[tuple[str, str, int], str] = {}
        self.orders: list[OrderPlaced] = []
        self.changes: list[SaleChanged] = []
        self.twice: list[str] = []
        self.working = asyncio.Event()
        self.working.set()
        name = f"fake-writer-{secrets.token_hex(4)}"
        self._reader = EventReader(kafka, [ORDERS, SALES], name, name)
        self._writer = EventWriter(kafka, name)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="fake writer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        await cancelled(self._task)
        await self._reader.close()
        await self._writer.close()

    async def _run(self) -> None:
        while True:
            await self.working.wait()
            batch = await self._reader.batch(500, timeout_s=0.2)
            answers = [answer for record in batch if (answer := self._answer(record)) is not None]
            while not all(await self._writer.send(answers, timeout_s=10)):
                pass
            await self._reader.commit(batch)

    def _answer(self, record: Record) -> Fact | None:
        match record.fact:
            case SaleChanged() as change if change.sale_id in self.sale_ids:
                self.changes.append(change)
                known = {name: getattr(change, name) for name in ("sale_id", "version", "epoch", "created_at_ms")}
                return SaleApplied(**known, at_ms=now_ms())
            case OrderPlaced() as order if order.sale_id in self.sale_ids:
                self.orders.append(order)
                if order.ticket_id not in self.verdicts:
                    self.verdicts[order.ticket_id] = self._verdict(order)
                return self.verdicts[order.ticket_id]
            case _:
                return None

    def _verdict(self, order: OrderPlaced) -> OrderConfirmed | OrderFailed:
        about = {
            "sale_id": order.sale_id,
            "ticket_id": order.ticket_id,
            "sku": order.sku,
            "buyer_id": order.buyer_id,
        }
        units = [(order.sale_id, order.sku, unit) for unit in order.units]
        reason = self.decide(order)
        if not reason and any(unit in self.sold for unit in units):
            self.twice.append(order.ticket_id)
            reason = "unit_taken"
        if reason:
            return OrderFailed(**about, units=order.units, slots=order.slots, reason=reason, decided_at_ms=now_ms())
        self.sold.update(dict.fromkeys(units, order.ticket_id))
        return OrderConfirmed(**about, units=order.units, slots=order.slots, decided_at_ms=now_ms())
