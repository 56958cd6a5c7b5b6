"""Tickets that ended without an order -> their history. Where there was an order, its verdict wrote the row."""

from collections.abc import Sequence
from typing import Final

import msgspec

from fairline.events import TicketDeclined, TicketLapsed
from fairline.ids import TicketId
from fairline.stream.reader import Record
from order_service.handling import Done, Outcome
from order_service.postgres import Postgres
from order_service.queries import query

_OUTCOME: Final = {TicketDeclined: "DECLINED", TicketLapsed: "LAPSED"}


class Tickets:
    """The handler of the tickets topic."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    def fault(self, record: Record) -> str | None:
        """Whatever is no end of a ticket cannot be handled on this topic."""
        if record.fact is None:
            return record.fault
        if not isinstance(record.fact, TicketDeclined | TicketLapsed):
            return f"{type(record.fact).__name__} is no end of a ticket"
        try:
            msgspec.convert(record.fact.ticket_id, TicketId)
        except msgspec.ValidationError:
            return "the id of its ticket is none"
        return None

    async def write(self, records: Sequence[Record]) -> list[Outcome]:
        """See ``Handler``. There is nobody to tell."""
        ends = [record.fact for record in records if isinstance(record.fact, TicketDeclined | TicketLapsed)]
        async with self._postgres.transaction() as connection:
            await connection.execute(
                query("record_ended"),
                [end.ticket_id for end in ends],
                [_OUTCOME[type(end)] for end in ends],
                [end.sale_id for end in ends],
                [end.sku for end in ends],
                [end.buyer_id for end in ends],
                [end.quantity for end in ends],
                [end.arrival for end in ends],
                [end.reason for end in ends],
                [end.at_ms for end in ends],
            )
        return [Done() for _ in records]

    async def give_up(self, _record: Record, /) -> Outcome:
        """It is a dead letter and nothing else: no order hangs on it."""
        return Done()
