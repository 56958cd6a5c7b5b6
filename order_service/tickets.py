"""Tickets that ended -> their history: without an order as it happens, all others when their sale is archived (C2).

Where there was an order, its verdict wrote the row, and that row stays.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from fairline.events import AnyFact, Fact, KeptTicket, TicketDeclined, TicketLapsed, TicketsArchived, TicketsKept
from fairline.ids import TicketId
from fairline.stream.reader import Record
from order_service.handling import Done, Outcome
from order_service.postgres import Postgres
from order_service.queries import query

_OUTCOME: Final = {TicketDeclined: "DECLINED", TicketLapsed: "LAPSED"}
# Sale, sku and reason are the key of an index: too long a one Postgres calls its own limit, which is *later* (V6).
_Text = Annotated[str, Meta(max_length=128)]
_Row = tuple[str, str, str, str, str, int, int, str, int]  # as record_ended.sql has them


class Tickets:
    """The handler of the tickets topic."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    def fault(self, record: Record) -> str | None:
        """Whatever is no end of a ticket cannot be handled on this topic."""
        if record.fact is None:
            return record.fault
        if not isinstance(record.fact, TicketDeclined | TicketLapsed | TicketsArchived):
            return f"{type(record.fact).__name__} is no end of a ticket"
        try:
            for ticket_id, _, *texts in _rows(record.fact):
                msgspec.convert(ticket_id, TicketId)
                msgspec.convert([text for text in texts if isinstance(text, str)], list[_Text])
        except msgspec.ValidationError as error:
            return f"the id of its ticket is none, or a text too long: {error}"
        return None

    def comes_again(self, _record: Record, /) -> bool:
        """Only a batch of the archive does; the end of a ticket is told once."""
        return False

    async def write(self, records: Sequence[Record]) -> list[Outcome]:
        """See ``Handler``. Who asked for tickets to be kept is told when they are; of the others there is nobody."""
        facts = [record.fact for record in records]
        rows = [row for fact in facts if fact is not None for row in _rows(fact)]
        if rows:
            async with self._postgres.transaction() as connection:
                await connection.execute(query("record_ended"), *map(list, zip(*rows, strict=True)))
        return [Done(_answer(fact)) for fact in facts]

    async def give_up(self, _record: Record, /) -> Outcome:
        """It is a dead letter and nothing else: no order hangs on it, and a batch is sent again."""
        return Done()


def _answer(fact: AnyFact | None) -> tuple[Fact, ...]:
    return (TicketsKept(sale_id=fact.sale_id, batch=fact.batch),) if isinstance(fact, TicketsArchived) else ()


def _rows(fact: AnyFact) -> Iterator[_Row]:
    match fact:
        case TicketsArchived():
            for end in fact.tickets:
                yield _row(fact.sale_id, end, end.outcome)
        case TicketDeclined() | TicketLapsed():
            yield _row(fact.sale_id, fact, _OUTCOME[type(fact)])


def _row(sale_id: str, end: KeptTicket | TicketDeclined | TicketLapsed, outcome: str) -> _Row:
    return (
        end.ticket_id,
        outcome,
        sale_id,
        end.sku,
        end.buyer_id,
        end.quantity,
        end.arrival,
        end.reason,
        end.at_ms,
    )
