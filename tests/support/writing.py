"""A writer of orders on a real Kafka and Postgres, with a topic of its own and steps that can be made to fail."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from fairline import events
from fairline.errors import UnavailableError
from fairline.events import Fact, OrderConfirmed, OrderFailed
from fairline.runtime.metrics import Metrics
from fairline.stream import topics
from fairline.stream.progress import behind, ends_of
from fairline.stream.reader import EventReader, Record
from fairline.stream.writer import EventWriter, Headers
from order_service.attempts import Attempts
from order_service.handling import Handler, Outcome
from order_service.orders import Orders
from order_service.postgres import Postgres
from order_service.writer import Writer
from tests.support.orders import Desk, a_sale_id, settings

DEADLINE_S = 60.0


class CrashError(Exception):
    """The process died here."""


class Trouble:
    """Which step is to die: ``attempt``, ``commit``, ``give_up``, ``dead_letter``, ``result``, ``offset``."""

    def __init__(self) -> None:
        self.before: str | None = None
        self.after: str | None = None
        self.met = 0

    def enter(self, step: str) -> None:
        if self.before == step:
            self.before = None
            self.met += 1
            raise CrashError(f"before {step}")

    def leave(self, step: str) -> None:
        if self.after == step:
            self.after = None
            self.met += 1
            raise CrashError(f"after {step}")


class Reader(EventReader):
    trouble: Trouble

    async def commit(self, done: Iterable[Record], kept: Iterable[Record] = ()) -> bool:
        self.trouble.enter("offset")
        taken = await super().commit(done, kept)
        self.trouble.leave("offset")
        return taken


class Publisher(EventWriter):
    trouble: Trouble

    async def send(self, facts: Sequence[Fact], timeout_s: float, headers: Headers = ()) -> list[bool]:
        self.trouble.enter("result")
        acknowledged = await super().send(facts, timeout_s, headers)
        self.trouble.leave("result")
        return acknowledged

    async def send_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, timeout_s: float
    ) -> bool:
        self.trouble.enter("dead_letter")
        acknowledged = await super().send_raw(topic, key, value, headers, timeout_s)
        self.trouble.leave("dead_letter")
        return acknowledged


class Troubled:
    """A handler whose commits can be made to fail."""

    def __init__(self, handler: Handler, trouble: Trouble) -> None:
        self._handler = handler
        self._trouble = trouble

    def fault(self, record: Record) -> str | None:
        return self._handler.fault(record)

    def comes_again(self, record: Record, /) -> bool:
        return self._handler.comes_again(record)

    async def write(self, records: Sequence[Record]) -> list[Outcome]:
        self._trouble.enter("commit")
        outcomes = await self._handler.write(records)
        self._trouble.leave("commit")
        return outcomes

    async def give_up(self, record: Record, /) -> Outcome:
        self._trouble.enter("give_up")
        outcome = await self._handler.give_up(record)
        self._trouble.leave("give_up")
        return outcome


class Bench:
    """One topic of orders, and any number of writers for it. ``crash`` forgets a writer as if its process had died."""

    def __init__(self, kafka: str, dsn: str) -> None:
        self.kafka = kafka
        self.desk = Desk(dsn)
        self.sale_id = a_sale_id()
        self.topic = f"orders-{self.sale_id}"
        self.trouble = Trouble()
        self.feeder = EventWriter(kafka, "test")
        self._open: list[tuple[EventReader, EventWriter, Postgres]] = []

    async def start(self, *, partitions: int = 1) -> None:
        names = [self.topic, f"{self.topic}.DLT"]
        await topics.create(self.kafka, partitions=partitions, replication=1, within_s=DEADLINE_S, topics=names)
        await topics.create(self.kafka, partitions=4, replication=1, within_s=DEADLINE_S)

    def writer(self, **more: object) -> Writer:
        chosen = settings(self.desk.dsn, kafka=self.kafka, **more)
        reader = Reader(self.kafka, [self.topic], f"{self.topic}-group", "test")
        publisher = Publisher(self.kafka, "test")
        reader.trouble = publisher.trouble = self.trouble
        metrics, postgres = Metrics(), Postgres(chosen, "test")
        self._open.append((reader, publisher, postgres))
        return Writer(
            Troubled(Orders(postgres, metrics), self.trouble),
            reader=reader,
            publisher=publisher,
            attempts=Attempts(postgres),
            settings=chosen,
            metrics=metrics,
        )

    async def crash(self) -> None:
        for reader, publisher, postgres in self._open:
            await reader.close()
            await publisher.close()
            await postgres.close()
        self._open.clear()

    async def close(self) -> None:
        await self.crash()
        await self.feeder.close()
        await self.desk.postgres.close()

    async def put(self, *values: Fact | bytes, key: bytes | None = None) -> None:
        for value in values:
            raw = value if isinstance(value, bytes) else events.encode(value)
            name = key if isinstance(value, bytes) else value.key.encode()
            assert await self.feeder.send_raw(self.topic, name, raw, (), timeout_s=DEADLINE_S)

    async def run(self, writer: Writer, *, until: int, within_s: float = DEADLINE_S) -> None:
        """Rounds until so many records are finished."""
        deadline = time.monotonic() + within_s
        finished = 0
        while finished < until:
            assert time.monotonic() < deadline, f"{finished} of {until} records finished"
            try:
                finished += await writer.run_once()
            except UnavailableError:
                continue

    async def results(self, count: int) -> list[OrderConfirmed | OrderFailed]:
        """At least so many results of this sale, all of them that there are then."""
        found: list[OrderConfirmed | OrderFailed] = []
        for record in await self._all(events.RESULTS, self._is_mine, count):
            assert isinstance(record.fact, OrderConfirmed | OrderFailed)
            found.append(record.fact)
        return found

    async def dead_letters(self, count: int) -> list[Record]:
        """At least so many dead letters."""
        return await self._all(f"{self.topic}.DLT", lambda _: True, count)

    async def left(self) -> int:
        """Records behind the committed offsets: what a new process would get."""
        ends = await ends_of(self.kafka, [self.topic], within_s=DEADLINE_S)
        return await behind(self.kafka, f"{self.topic}-group", ends, within_s=DEADLINE_S)

    def _is_mine(self, record: Record) -> bool:
        return isinstance(record.fact, OrderConfirmed | OrderFailed) and record.fact.sale_id == self.sale_id

    async def _all(self, topic: str, mine: Any, count: int) -> list[Record]:
        reader = EventReader(self.kafka, [topic], f"look-{time.time_ns()}", "test")
        found: list[Record] = []
        deadline = time.monotonic() + DEADLINE_S
        try:
            while True:
                batch = await reader.batch(1000, timeout_s=0.5)
                found += [record for record in batch if mine(record)]
                if len(found) >= count and not batch.records:
                    return found
                assert time.monotonic() < deadline, f"only {len(found)} of {count} on {topic}"
        finally:
            await reader.close()
