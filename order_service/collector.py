"""Copies dead letters from their topics into Postgres, when somebody looks. Not a consumer: nothing runs by itself.

A copy is needed because Kafka keeps a dead letter for a month and cannot remember what was done with it. Bounded: one
look reads at most ``MOST`` records, or about ``MOST_BYTES``, and says whether there are more. Any number may look at
once.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

import msgspec

from fairline import events
from fairline.events import DEAD_LETTERS
from fairline.stream.reader import Partition, Record
from fairline.stream.scan import MOST_BYTES, Scan, scan
from order_service.postgres import Postgres
from order_service.queries import query
from order_service.remains import sale_of, whose

MOST: Final = 10_000
WITHIN_S: Final = 5.0
ORIGIN: Final = "fairline-"  # how the headers begin that a dead letter has besides those it came with
KINDS: Final = {events.ORDERS: "order", events.RESULTS: "result", events.SALES: "sale", events.TICKETS: "ticket"}
_INT: Final = 2**31 - 1


class Collector:
    """The dead letters of these topics (topic -> kind) on one Kafka."""

    def __init__(
        self,
        postgres: Postgres,
        bootstrap: str,
        name: str,
        *,
        topics: Mapping[str, str] = KINDS,
        most: int = MOST,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._postgres = postgres
        self._bootstrap = bootstrap
        self._name = name
        self._kinds = {f"{topic}{DEAD_LETTERS}": kind for topic, kind in topics.items()}
        self._most = most
        self._most_bytes = most_bytes
        self._one = asyncio.Lock()
        self._begun = 0  # looks, counted
        self._done = 0  # the last one that was finished, and what it found
        self._complete = False

    async def collect(self) -> bool:
        """Copy what has come since the last look; whether that was all. Raises ``UnavailableError``.

        Those who ask while a look is under way share the next one.
        """
        asked = self._begun
        async with self._one:
            if self._done > asked:  # a look that began after this one was asked for
                return self._complete
            self._begun += 1
            self._complete, self._done = await self._look(), self._begun
            return self._complete

    async def _look(self) -> bool:
        known = await self._last()
        found = await self._scan({where: offset for where, (offset, _) in known.items()})
        # Each scan begins with the last one known. Where another record is there now, the topic was made anew.
        first = {record.where: record for record in reversed(found.records)}
        same = {
            where: offset
            for where, (offset, id_) in known.items()
            if (id_of(first[where]) == id_ if where in first else not found.complete)
        }
        if same.keys() != known.keys():
            found = await self._scan(same)
        await self._keep(found.records)
        return found.complete

    async def _last(self) -> dict[Partition, tuple[int, str]]:
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(query("last_dead_letters"), list(self._kinds))
        return {
            Partition(row["letter_topic"], row["letter_partition"]): (row["letter_offset"], row["id"]) for row in rows
        }

    async def _scan(self, starts: Mapping[Partition, int]) -> Scan:
        return await scan(
            self._bootstrap,
            list(self._kinds),
            self._name,
            starts=starts,
            most=self._most,
            most_bytes=self._most_bytes,
            within_s=WITHIN_S,
        )

    async def _keep(self, records: Sequence[Record]) -> None:
        if not records:
            return
        async with self._postgres.transaction() as connection:
            # Kafka gives each who looks another order; kept in one, two at once never wait for each other in a ring.
            await connection.executemany(
                query("keep_dead_letter"),
                [_row(record, self._kinds[record.topic]) for record in sorted(records, key=_place)],
            )


def origin(record: Record) -> tuple[str, int, int]:
    """Topic, partition and offset that a dead letter came from; its own where it does not say."""
    said = dict(record.headers)
    topic = record.topic.removesuffix(DEAD_LETTERS)
    partition, offset = _number(said, "origin-partition"), _number(said, "origin-offset")
    if partition is None or offset is None:
        return topic, record.partition, record.offset
    return topic, partition, offset


def _place(record: Record) -> tuple[tuple[str, int, int], str]:
    return origin(record), id_of(record)


def id_of(record: Record) -> str:
    """The same for the same record given up twice, and another for what a topic that was made anew has at its place."""
    topic, partition, offset = origin(record)
    content = blake2b((record.key or b"") + b"\n" + record.value, digest_size=4).hexdigest()
    return f"{topic.removeprefix('fairline.')}-{partition}-{offset}-{content}"


def _row(record: Record, kind: str) -> tuple[Any, ...]:
    said = dict(record.headers)
    order = whose(record) if kind == "order" else None
    headers = [(name, value) for name, value in record.headers if not name.startswith(ORIGIN)]
    return (
        id_of(record),
        kind,
        record.topic,
        record.partition,
        record.offset,
        record.key,
        record.value,
        msgspec.json.encode([(name.replace("\x00", ""), value) for name, value in headers]).decode(),
        said.get("fairline-reason", b"").decode(errors="replace").replace("\x00", "\ufffd"),
        min(_number(said, "attempts") or 0, _INT),
        _instant(said.get("fairline-given-up-at", b"")),
        order.sale_id if order else sale_of(record),
        order.ticket_id if order else None,
    )


def _number(said: Mapping[str, bytes], name: str) -> int | None:
    text = said.get(ORIGIN + name, b"")
    return int(text) if text.isdigit() and len(text) < 19 else None  # noqa: PLR2004 - below 2^63


def _instant(text: bytes) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.decode())
        return found.astimezone(UTC) if found.tzinfo else None
    except (ValueError, OverflowError):
        return None
