"""Reads facts from Kafka as a member of a group, and commits only what it is told was done.

    reader = EventReader("host:9092", [events.RESULTS], "admission-settler", "admission")
    batch = await reader.batch(500, timeout_s=0.5)
    ...                                   # the effect of batch.records first
    await reader.commit(batch)            # then the offsets; or reader.rewind(batch), to get them again
    await reader.close()

Every record comes at least once: after a crash, a rebalance or a refused commit it comes again, so whoever reads must
not care. Nothing connects before the first ``batch``; what Kafka refuses or leaves unanswered is an
``UnavailableError``, after which the next ``batch`` connects anew and goes on from the committed offsets.

Where the reader stands may be moved by a rebalance or by such a new connection, at any ``batch``:
``generation`` is another number then, and what was read but not committed comes again, here or elsewhere. Whoever
keeps records across batches forgets them when it changes. Not for use by several tasks at once.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from fairline import events
from fairline.errors import UnavailableError
from fairline.stream.connection import start, stop

CONNECT_S: Final = 15.0  # the first group of a new Kafka waits while the topic of offsets is made
COMMIT_S: Final = 5.0
REQUEST_TIMEOUT_S: Final = 10.0
SESSION_S: Final = 6.0  # how long a killed member keeps its partitions; a broker takes no less by default
HEARTBEATS: Final = 3  # a session, at least
HEARTBEAT_S: Final = 0.5  # also how late members learn that another came or went, and until then nobody reads its share
FETCH_WAIT_S: Final = 0.2  # a broker holds an empty fetch so long, and with it news for a partition just resumed

_log = logging.getLogger(__name__)


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Record(NamedTuple):
    """One record. ``fact`` is None where the value is no fact we know, and ``fault`` says why then."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    fact: events.AnyFact | None
    fault: str = ""

    @property
    def where(self) -> Partition:
        """Its partition."""
        return Partition(self.topic, self.partition)


@dataclass(frozen=True)
class Batch:
    """What one call gave. ``commit`` and ``rewind`` take it, or any records of it."""

    records: tuple[Record, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)


class EventReader:
    """A member of a consumer group that reads from the earliest record nobody has committed."""

    def __init__(
        self, bootstrap: str, topics: Sequence[str], group: str, client_id: str, *, session_s: float = SESSION_S
    ) -> None:
        self.generation = 0
        self._bootstrap = bootstrap
        self._topics = tuple(topics)
        self._group = group
        self._client_id = client_id
        self._session_s = session_s
        self._consumer: AIOKafkaConsumer | None = None
        self._paused: set[Partition] = set()
        self._next: dict[Partition, int] = {}

    async def batch(self, max_records: int, timeout_s: float) -> Batch:
        """The next records, at most so many, as soon as there are any; none after ``timeout_s``.

        In order within a partition. A value that cannot be decoded is handed over too, with ``fact`` None. Connecting
        and a rebalance may take longer than ``timeout_s``, but not for ever. Raises ``UnavailableError``.
        """
        records = await self._poll(max_records, timeout_s)
        for record in records:
            self._next[record.where] = record.offset + 1
        return Batch(tuple(records))

    async def commit(self, done: Iterable[Record], kept: Iterable[Record] = ()) -> bool:
        """Commit per partition the offset after the last of ``done``, but none beyond the first of ``kept``.

        False when Kafka did not take it. After a rebalance that is normal, and otherwise harmless: the next commit
        covers this one, or the records come again.
        """
        offsets: dict[Partition, int] = {}
        for record in done:
            offsets[record.where] = max(offsets.get(record.where, 0), record.offset + 1)
        for record in kept:
            if record.where in offsets:
                offsets[record.where] = min(offsets[record.where], record.offset)
        if not offsets:
            return True
        if self._consumer is None:
            return False
        try:
            async with asyncio.timeout(COMMIT_S):
                await self._consumer.commit({TopicPartition(*where): offset for where, offset in offsets.items()})
        except (CommitFailedError, IllegalStateError) as error:
            _log.debug("a commit came too late, the partitions have moved: %s", error)
            return False
        except (TimeoutError, KafkaError, OSError) as error:
            _log.warning("offsets are not committed yet: %r", error)
            return False
        return True

    async def rewind(self, records: Iterable[Record]) -> None:
        """Go back, so that these records (and what follows them) come again with the next ``batch``."""
        first: dict[Partition, int] = {}
        for record in records:
            first[record.where] = min(first.get(record.where, record.offset), record.offset)
        for where, offset in first.items():
            self._next[where] = offset
            if self._consumer is not None:
                with contextlib.suppress(IllegalStateError):  # it is somebody else's now, who gets them
                    self._consumer.seek(TopicPartition(*where), offset)

    def pause(self, partitions: Iterable[Partition]) -> None:
        """Read nothing from these until ``resume``. A change of ``generation`` resumes all."""
        wanted = set(partitions)
        self._paused |= wanted
        self._apply(wanted, pause=True)

    def resume(self, partitions: Iterable[Partition] | None = None) -> None:
        """Read from these again; from all when none are named."""
        wanted = set(self._paused if partitions is None else partitions) & self._paused
        self._paused -= wanted
        self._apply(wanted, pause=False)

    def lag(self) -> dict[str, int]:
        """Records between where this member reads and the end, by topic, as far as the last answers of Kafka told."""
        behind = dict.fromkeys(self._topics, 0)
        if self._consumer is not None:
            for where in self._consumer.assignment():
                end, position = self._consumer.highwater(where), self._next.get(Partition(*where))
                if end is not None and position is not None:
                    behind[where.topic] += max(0, end - position)
        return behind

    async def check(self) -> None:
        """Raises ``UnavailableError`` when there is no connection to Kafka, or none that answers. For ``/readyz``."""
        if self._consumer is None:
            raise UnavailableError("not connected to Kafka")
        try:
            await self._consumer._client.fetch_all_metadata()  # noqa: SLF001 - topics() would hide the failure
        except (KafkaError, OSError) as error:
            raise UnavailableError(f"Kafka does not answer: {error}") from error

    async def close(self) -> None:
        """Leave the group, so that others get the partitions at once. A second call does nothing more."""
        await self._drop()

    async def _poll(self, max_records: int, timeout_s: float) -> list[Record]:
        consumer = await self._connected()
        try:
            # getmany() keeps its own time limit, except while the group is being rebalanced.
            async with asyncio.timeout(timeout_s + self._session_s + REQUEST_TIMEOUT_S):
                found = await consumer.getmany(timeout_ms=round(timeout_s * 1000), max_records=max_records)
        except UnicodeDecodeError as error:
            # The library decodes the names of headers, and reads nothing behind one that it cannot. Never one of ours.
            await self._drop()
            raise UnavailableError(
                "Kafka holds a record with a header whose name is no UTF-8, which cannot be read: move the offset of"
                f" the group {self._group} behind it, in the partition where it lags"
            ) from error
        except (TimeoutError, KafkaError, OSError) as error:
            await self._drop()
            raise UnavailableError(f"Kafka cannot be read: {error!r}") from error
        return [record_of(raw) for part in found.values() for raw in part]

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is not None:
            return self._consumer
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=self._group,
            client_id=self._client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            request_timeout_ms=round(REQUEST_TIMEOUT_S * 1000),
            session_timeout_ms=round(self._session_s * 1000),
            heartbeat_interval_ms=round(min(HEARTBEAT_S, self._session_s / HEARTBEATS) * 1000),
            fetch_max_wait_ms=round(FETCH_WAIT_S * 1000),
        )
        consumer.subscribe(self._topics, listener=_Moves(self))
        try:
            async with asyncio.timeout(CONNECT_S):
                await start(consumer)
        except (TimeoutError, KafkaError, OSError) as error:
            await stop(consumer)
            raise UnavailableError(f"Kafka cannot be reached: {error!r}") from error
        except BaseException:
            await stop(consumer)
            raise
        self._consumer = consumer
        return consumer

    async def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._moved()
        if consumer is not None:
            await stop(consumer)

    def _moved(self) -> None:
        self.generation += 1
        self._paused.clear()
        self._next.clear()

    def _apply(self, partitions: Iterable[Partition], *, pause: bool) -> None:
        if self._consumer is None:
            return
        act: Callable[[TopicPartition], None] = self._consumer.pause if pause else self._consumer.resume
        for where in partitions:
            with contextlib.suppress(IllegalStateError):
                act(TopicPartition(*where))


class _Moves(ConsumerRebalanceListener):
    """Every rebalance takes all partitions away and sets those given back to their committed offsets."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing is to be saved: what is not committed comes again."""

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Whoever keeps records is told by the number."""
        self._reader._moved()  # noqa: SLF001 - one class in two, because the library wants a listener
        _log.info("reads %s", sorted(assigned))


def record_of(raw: Any) -> Record:
    """A record as the library gives it, with its fact if it is one."""
    fact, fault = None, ""
    try:
        fact = events.decode(raw.value or b"")
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        fault = f"{type(error).__name__}: {error}"
    headers = tuple((name, value or b"") for name, value in raw.headers)  # Kafka knows headers without a value
    return Record(raw.topic, raw.partition, raw.offset, raw.key, raw.value or b"", headers, fact, fault)
