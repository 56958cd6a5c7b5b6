"""Orders -> verdicts: one transaction a batch, one row an order, the first verdict stays (V1 to V4, V7).

A batch goes like this; all of it is one transaction:

    the sales are locked and looked at          epoch older: an order without a row is passed over in silence (V7)
                                                sale, epoch or serial not known yet: it waits (V6)
    all others are written as confirmed at once, in a savepoint
    those with a row already                    their verdict stands, and is told again
    those whose units are not all free          are taken out, the savepoint is undone, the others written again;
                                                then each is decided alone: unit_taken or already_bought (V3)
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from fairline.events import OrderConfirmed, OrderFailed, OrderPlaced
from fairline.ids import BuyerId, Sku
from fairline.runtime.metrics import Metrics
from fairline.stream.reader import Record
from order_service.handling import Done, Outcome, Wait
from order_service.postgres import Connection, Postgres
from order_service.remains import whose
from order_service.verdicts import (
    InTheWayError,
    KnownSale,
    Verdict,
    fail,
    known_sales,
    place,
    stored_verdicts,
    unit_is_taken,
)

ROUNDS: Final = 3  # of writing a batch without those in the way, before each order is decided alone


class _Ids(msgspec.Struct):
    """Of a length that an index takes: Postgres calls a longer key its own limit, which is no fault of the data."""

    sku: Sku
    buyer_id: BuyerId


class Orders:
    """The handler of the orders topic."""

    def __init__(self, postgres: Postgres, metrics: Metrics) -> None:
        self._postgres = postgres
        self._metrics = metrics

    def fault(self, record: Record) -> str | None:
        """Whatever is no order on this topic cannot be handled."""
        if record.fact is None:
            return record.fault
        if not isinstance(record.fact, OrderPlaced):
            return f"{type(record.fact).__name__} is no order"
        if whose(record) is not record.fact:
            return "the id of its sale or ticket is none"
        try:
            msgspec.convert({"sku": record.fact.sku, "buyer_id": record.fact.buyer_id}, _Ids)
        except msgspec.ValidationError:
            return "its sku or the id of its buyer is none"
        return None

    def comes_again(self, record: Record, /) -> bool:
        """Every order of a ticket: it stays RESERVED until there is a verdict (O2, O3)."""
        return whose(record) is not None

    async def write(self, records: Sequence[Record]) -> list[Outcome]:
        """See ``Handler``. A ticket that is in the batch twice is decided once, by its newest epoch."""
        newest: dict[str, OrderPlaced] = {}
        for record in records:
            order = _order(record)
            if order.ticket_id not in newest or newest[order.ticket_id].epoch < order.epoch:
                newest[order.ticket_id] = order
        async with self._postgres.transaction() as connection:
            decided, written = await _decide(connection, list(newest.values()))
        for verdict, count in written.items():
            self._metrics.written.labels(verdict).inc(count)
        outcomes: list[Outcome] = []
        for record in records:
            ticket_id = _order(record).ticket_id
            outcome = decided[ticket_id]
            outcomes.append(outcome)
            if isinstance(outcome, Done):  # told once a batch
                decided[ticket_id] = replace(outcome, facts=())
        return outcomes

    async def give_up(self, record: Record, /) -> Outcome:
        """See ``Handler``: the verdict ``failed(not_writable)``. Nothing where sale and ticket cannot be read."""
        order = whose(record)
        if order is None:
            return Done()
        async with self._postgres.transaction() as connection:
            sales = await known_sales(connection, [order.sale_id])
            if order.sale_id not in sales:
                return Wait(f"sale {order.sale_id} is not known yet")
            stored = await stored_verdicts(connection, [order.ticket_id])
            if order.ticket_id in stored:
                return _again(stored[order.ticket_id])
            if order.epoch < sales[order.sale_id].epoch:
                return Done()
            verdict = await fail(connection, order, "not_writable")
        self._metrics.written.labels("not_writable").inc()
        return Done((verdict,))


async def _decide(connection: Connection, orders: Sequence[OrderPlaced]) -> tuple[dict[str, Outcome], dict[str, int]]:
    """An outcome for each ticket, and how many new verdicts of each kind there are."""
    sales = await known_sales(connection, sorted({order.sale_id for order in orders}))
    decided: dict[str, Outcome] = {}
    fresh, rowless = [], []
    for order in orders:
        sale = sales.get(order.sale_id)
        if sale is None:
            decided[order.ticket_id] = Wait(f"sale {order.sale_id} is not known yet")
        elif (outcome := _without_row(order, sale)) is not None:
            decided[order.ticket_id] = outcome
            rowless.append(order)
        else:
            fresh.append(order)

    fresh.sort(key=lambda order: order.ticket_id)  # two writers lock in the same order
    confirmed, in_the_way = await _place_all(connection, fresh)
    decided |= {ticket: Done((fact,)) for ticket, fact in confirmed.items()}
    known = [order for order in fresh if order.ticket_id not in confirmed and order.ticket_id not in in_the_way]
    stored = await stored_verdicts(connection, [order.ticket_id for order in (*rowless, *known)])
    decided |= {ticket: _again(fact) for ticket, fact in stored.items()}

    written = {"confirmed": len(confirmed)}
    for order in sorted(fresh, key=lambda order: order.arrival):
        if order.ticket_id not in decided:
            fact = await _decide_alone(connection, order)
            decided[order.ticket_id] = Done((fact,))
            word = "confirmed" if isinstance(fact, OrderConfirmed) else fact.reason
            written[word] = written.get(word, 0) + 1
    return decided, written


def _without_row(order: OrderPlaced, sale: KnownSale) -> Outcome | None:
    """What becomes of an order that has no row, where that needs no writing."""
    if order.epoch < sale.epoch:
        return Done()
    if order.epoch > sale.epoch:
        return Wait(f"epoch {order.epoch} of {order.sale_id} is not known yet")
    high = sale.high.get(order.sku)
    if high is not None and any(unit > high for unit in order.units):
        return Wait(f"of {order.sku} in {order.sale_id} only {high} are known yet")
    return None


async def _place_all(
    connection: Connection, orders: Sequence[OrderPlaced]
) -> tuple[dict[str, OrderConfirmed], frozenset[str]]:
    """Those confirmed now, and those whose units are not free. The others have a row already."""
    in_the_way: frozenset[str] = frozenset()
    for _ in range(ROUNDS):
        rest = [order for order in orders if order.ticket_id not in in_the_way]
        if not rest:
            break
        try:
            return await place(connection, rest), in_the_way
        except InTheWayError as error:
            in_the_way |= error.tickets
    return {}, frozenset(order.ticket_id for order in orders)


async def _decide_alone(connection: Connection, order: OrderPlaced) -> Verdict:
    try:
        placed = await place(connection, [order])
    except InTheWayError:
        taken = await unit_is_taken(connection, order)
        return await fail(connection, order, "unit_taken" if taken else "already_bought")
    if placed:
        return placed[order.ticket_id]
    return (await stored_verdicts(connection, [order.ticket_id]))[order.ticket_id]


def _order(record: Record) -> OrderPlaced:
    assert isinstance(record.fact, OrderPlaced)  # noqa: S101 - ``fault`` let no other pass
    return record.fact


def _again(fact: Verdict) -> Done:
    return Done((fact,), given_up=isinstance(fact, OrderFailed) and fact.reason == "not_writable")
