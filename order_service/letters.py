"""What operators may do with dead letters: look, replay, readmit, discard. A job, never a live consumer (S2).

    replay   sends the record again as it was, if there is no verdict yet. confirmed: nothing is left to do, it is
             discarded. failed: refused, for the verdict stands; readmit is what helps its buyer
    readmit  only where the verdict is failed. The gateway gives the buyer a new ticket in Redis between the two calls
             ``readmit`` (may it be?) and ``readmitted`` (it is), whose id follows from the old ticket's: so it is one,
             however often and wherever this is repeated or breaks off
    discard  closes it: nobody needs it

A dead letter is open, then one of replayed, readmitted and discarded for good. The same act again does nothing more;
another one is refused. Each act is in the audit log before it takes effect. A process that dies between two steps
leaves the letter open, and the act is made again: an order that is sent twice is written once (V1).
"""

from typing import Any, Final

import asyncpg
import msgspec

from fairline.errors import UnavailableError
from fairline.events import DEAD_LETTERS
from fairline.stream.writer import EventWriter, TooLargeError
from order_service import audit
from order_service.audit import Act
from order_service.collector import Collector
from order_service.postgres import Connection, Postgres
from order_service.problems import Problem
from order_service.queries import query

STATES: Final = ("open", "replayed", "readmitted", "discarded")
_SHOWN: Final = (
    *("id", "kind", "state", "sale_id", "ticket_id", "verdict", "reason", "attempts", "given_up_at"),
    *("readmitted_as", "handled_at"),
)


class Letters:
    """All dead letters. Methods answer what is sent as JSON; they raise ``Problem`` and ``UnavailableError``."""

    def __init__(self, postgres: Postgres, collector: Collector, publisher: EventWriter, *, publish_s: float) -> None:
        self._postgres = postgres
        self._collector = collector
        self._publisher = publisher
        self._publish_s = publish_s

    async def page(self, sale_id: str | None, state: str | None, limit: int, after: int) -> object:
        """In the order in which they became known; ``next`` is null once there are no more, here and on the topics."""
        complete = await self._collector.collect()
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(query("list_dead_letters"), after, sale_id, state, limit + 1)
        page = rows[:limit]
        last = page[-1]["number"] if page else after
        more = len(rows) > limit or not complete
        return {"dead_letters": [_shown(row) for row in page], "next": str(last) if more else None}

    async def show(self, letter_id: str) -> object:
        """One of them with what it holds."""
        await self._look_for(letter_id)
        async with self._postgres.transaction() as connection:
            row = await self._row(connection, letter_id)
        headers = msgspec.json.decode(row["headers"], type=list[tuple[str, bytes]])
        return {
            **_shown(row),
            "topic": row["letter_topic"].removesuffix(DEAD_LETTERS),
            "key": _text(row["key"]),
            "value": _text(row["value"]),
            "value_bytes": len(row["value"]),
            "headers": [[name, _text(value)] for name, value in headers],
        }

    async def replay(self, letter_id: str, act: Act) -> object:
        """Send it again as it was, if it has no verdict; answered when Kafka has it."""
        await self._look_for(letter_id)
        async with self._postgres.transaction() as connection:
            row = await self._row(connection, letter_id)
            if _done(row, "replayed"):
                return _shown(row)
            if row["verdict"] == "failed":
                raise Problem(409, "order_failed", "its order has failed for good and is never sent again: readmit")
            await audit.record(connection, act, "dead_letter.replay", letter_id, row["sale_id"])
            if row["verdict"] == "confirmed":
                return await self._handle(connection, letter_id, "discarded")
        headers = msgspec.json.decode(row["headers"], type=list[tuple[str, bytes]])
        topic = row["letter_topic"].removesuffix(DEAD_LETTERS)
        try:
            taken = await self._publisher.send_raw(topic, row["key"], row["value"], headers, self._publish_s)
        except TooLargeError as error:
            raise Problem(409, "record_too_large", str(error)) from error
        if not taken:
            raise UnavailableError("the record was not acknowledged")
        async with self._postgres.transaction() as connection:
            return await self._handle(connection, letter_id, "replayed")

    async def readmit(self, letter_id: str, act: Act) -> object:
        """Whether its buyer may have a new ticket: the letter, open, or readmitted already. Changes nothing of it."""
        await self._look_for(letter_id)
        async with self._postgres.transaction() as connection:
            row = await self._row(connection, letter_id)
            if not _done(row, "readmitted"):
                _needs_failed(row)
                await audit.record(connection, act, "dead_letter.readmit", letter_id, row["sale_id"])
        return _shown(row)

    async def readmitted(self, letter_id: str, ticket_id: str) -> object:
        """Its buyer has this new ticket."""
        await self._look_for(letter_id)
        async with self._postgres.transaction() as connection:
            row = await self._row(connection, letter_id)
            if _done(row, "readmitted"):
                return _shown(row)
            _needs_failed(row)
            return await self._handle(connection, letter_id, "readmitted", ticket_id)

    async def discard(self, letter_id: str, act: Act) -> object:
        """Close it."""
        await self._look_for(letter_id)
        async with self._postgres.transaction() as connection:
            row = await self._row(connection, letter_id)
            if _done(row, "discarded"):
                return _shown(row)
            await audit.record(connection, act, "dead_letter.discard", letter_id, row["sale_id"])
            return await self._handle(connection, letter_id, "discarded")

    async def _handle(
        self, connection: Connection, letter_id: str, state: str, readmitted_as: str | None = None
    ) -> object:
        await connection.execute(query("handle_dead_letter"), letter_id, state, readmitted_as)
        return _shown(await self._row(connection, letter_id))

    async def _look_for(self, letter_id: str) -> None:
        """Look at the topics for one that is not known yet. Not while a connection is held: collecting needs one."""
        async with self._postgres.connection() as connection:
            known = await connection.fetchrow(query("dead_letter"), letter_id)
        if known is None:
            await self._collector.collect()

    @staticmethod
    async def _row(connection: Connection, letter_id: str) -> asyncpg.Record:
        row = await connection.fetchrow(query("dead_letter"), letter_id)
        if row is None:
            raise Problem(404, "unknown_dead_letter", f"there is no dead letter {letter_id}")
        return row


def _shown(row: asyncpg.Record) -> dict[str, Any]:
    return {name: row[name] for name in _SHOWN}


def _done(row: asyncpg.Record, state: str) -> bool:
    if row["state"] not in ("open", state):
        raise Problem(409, "already_handled", f"this dead letter was {row['state']}", state=row["state"])
    return bool(row["state"] == state)


def _needs_failed(row: asyncpg.Record) -> None:
    if row["ticket_id"] is None:
        raise Problem(409, "no_ticket", "this dead letter is no order whose ticket can be read")
    if row["verdict"] is None:
        raise Problem(409, "no_verdict", "its order has no verdict yet: replay")
    if row["verdict"] == "confirmed":
        raise Problem(409, "order_confirmed", "its order is confirmed: there is nothing to put right")


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode(errors="backslashreplace")
