"""Sales as their operators change them, and their counts -> Postgres, and word back of what it knows (O4, U3).

A change carries the whole sale, so that one that was lost costs nothing: only a newer version replaces what is there.
Whatever comes is answered with the version that Postgres has, and when that sale was created: a change of another sale
of the same id, made anew on a Redis that lost it, is not taken over, and admission halts that one by the answer.
"""

from collections.abc import Sequence

import msgspec

from fairline import events
from fairline.clock import now_ms
from fairline.events import SaleApplied, SaleChanged, SaleCounted
from fairline.ids import SaleId, Sku
from fairline.stream.reader import Record
from order_service.handling import Done, Outcome
from order_service.postgres import Connection, Postgres
from order_service.queries import query


class Sales:
    """The handler of the sales topic."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    def fault(self, record: Record) -> str | None:
        """Whatever is no change of a sale cannot be handled on this topic."""
        if record.fact is None:
            return record.fault
        if not isinstance(record.fact, SaleChanged | SaleCounted):
            return f"{type(record.fact).__name__} is no change of a sale"
        try:
            msgspec.convert(record.fact.sale_id, SaleId)
        except msgspec.ValidationError:
            return "the id of its sale is none"
        return _fault_of_items(record.fact) if isinstance(record.fact, SaleChanged) else None

    def comes_again(self, _record: Record, /) -> bool:
        """Only the last change of a sale does, and each belongs into its history."""
        return False

    async def write(self, records: Sequence[Record]) -> list[Outcome]:
        """See ``Handler``. Of several changes of one sale the last one is answered."""
        facts = [record.fact for record in records]
        changes = [fact for fact in facts if isinstance(fact, SaleChanged)]
        known: dict[str, SaleApplied] = {}
        async with self._postgres.transaction() as connection:
            # Locked in the order in which the writers of orders do; the order within a sale stays.
            for change in sorted(changes, key=lambda change: change.sale_id):
                await _take_over(connection, change)
            for sale_id in sorted({change.sale_id for change in changes}):
                row = await connection.fetchrow(query("known_sale"), sale_id)
                assert row is not None  # noqa: S101 - taken over above, now or long ago
                known[sale_id] = SaleApplied(sale_id=sale_id, **row, at_ms=now_ms())
            await _keep_counts(connection, [fact for fact in facts if isinstance(fact, SaleCounted)])
        outcomes: list[Outcome] = []
        for fact in reversed(facts):
            answer = known.pop(fact.sale_id, None) if isinstance(fact, SaleChanged) else None
            outcomes.append(Done((answer,)) if answer else Done())
        return outcomes[::-1]

    async def give_up(self, _record: Record, /) -> Outcome:
        """A change that cannot be taken over is not answered; whoever waits for the answer is told so in time."""
        return Done()


def _fault_of_items(change: SaleChanged) -> str | None:
    """What Postgres would call a fault of the statement or a limit of its own, which is *later* (V6), and for ever."""
    skus = [item.sku for item in change.items]
    try:
        msgspec.convert(skus, list[Sku])
    except msgspec.ValidationError:
        return "a sku of it is none"
    return None if len(set(skus)) == len(skus) else "it has a sku twice"


async def _keep_counts(connection: Connection, counted: Sequence[SaleCounted]) -> None:
    for fact in sorted(counted, key=lambda fact: fact.sale_id):  # one order for all writers
        counts = msgspec.json.encode(fact.counts).decode()
        await connection.execute(query("keep_counts"), fact.sale_id, fact.epoch, fact.at_ms, counts)


async def _take_over(connection: Connection, change: SaleChanged) -> None:
    snapshot = events.encode(change).decode()
    mine = await connection.fetchval(
        query("apply_sale"),
        change.sale_id,
        change.epoch,
        change.version,
        change.state,
        change.name,
        change.per_buyer_limit,
        snapshot,
        change.at_ms,
    )
    if mine is not None:
        withdrawn = [(item.sku, unit) for item in change.items for unit in item.withdrawn]
        off_sale = [sku for sku, _ in withdrawn], [unit for _, unit in withdrawn]
        await connection.execute(query("put_back_units"), change.sale_id, *off_sale)
        await connection.execute(
            query("apply_items"),
            change.sale_id,
            [item.sku for item in change.items],
            [item.name for item in change.items],
            [item.stock for item in change.items],
            [item.high for item in change.items],
            [item.version for item in change.items],
        )
        await connection.execute(query("withdraw_units"), change.sale_id, *off_sale)
    await connection.execute(
        query("record_change"),
        change.sale_id,
        change.version,
        change.action,
        change.reason,
        change.state,
        snapshot,
        change.at_ms,
    )
