"""Publishes facts to Kafka, and says of each whether the broker has acknowledged it.

    writer = EventWriter("host:9092", "order_service")
    acked = await writer.send(facts, timeout_s=5)      # [True, False, ...] in the order of facts
    await writer.close()

Nothing connects before the first ``send``, and no call waits longer than it is told to. What is not acknowledged in
time is neither sent nor failed: it may be on the topic or not, and the caller, who still holds it, sends it again.
The producer that did not answer is thrown away with its queue, so that a broker that is away for an hour costs no
memory; so is one that Kafka no longer accepts (sequence lost, fenced). One task may send at a time or many may.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from fairline import events
from fairline.clock import at, now_ms
from fairline.errors import UnavailableError
from fairline.events import Fact
from fairline.stream.connection import CLOSE_S, end, start

Headers = Sequence[tuple[str, bytes]]

REQUEST_TIMEOUT_S: Final = 10.0
# One request to a partition is in flight at a time, so that a large batch is what makes it fast. Below the broker's
# own limit of 1 MB a batch.
BATCH_BYTES: Final = 512 * 1024
# What is too large is the broker's to say: it counts what is left after compression, the library what was before.
UNLIMITED: Final = 2**31 - 1

_log = logging.getLogger(__name__)


class TooLargeError(Exception):
    """Kafka will never take this record: it is larger than one may be there."""


class EventWriter:
    """An idempotent producer with ``acks=all`` that replaces itself when it is of no more use."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._discarding: set[asyncio.Task[None]] = set()

    async def send(self, facts: Sequence[Fact], timeout_s: float, headers: Headers = ()) -> list[bool]:
        """Publish the facts, each to its topic under its key; which of them were acknowledged within ``timeout_s``.

        ``headers`` are added to the CloudEvents headers of each. Facts of one key keep their order.
        """
        records = [
            (fact.topic, fact.key.encode(), events.encode(fact), [*cloud_event(fact), *headers]) for fact in facts
        ]
        return [fault is None for fault in await self._send(records, timeout_s)]

    async def send_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, timeout_s: float
    ) -> bool:
        """Publish bytes as they are (a dead letter), the partition left to the producer; whether acknowledged.

        A missing value becomes an empty one: the library refuses a record with neither key nor value. Raises
        ``TooLargeError`` for what Kafka will never take.
        """
        (fault,) = await self._send([(topic, key, value or b"", list(headers))], timeout_s)
        if isinstance(fault, MessageSizeTooLargeError):
            raise TooLargeError(f"a record for {topic} is larger than Kafka takes: {fault}")
        return fault is None

    async def check(self) -> None:
        """Ask the brokers for their metadata; raises ``UnavailableError`` when none answers. For ``/readyz``."""
        try:
            producer = await self._connected()
            await producer.client.fetch_all_metadata()
        except (KafkaError, OSError) as error:
            raise UnavailableError(f"Kafka does not answer: {error}") from error

    async def close(self) -> None:
        """Close the producer; what is not acknowledged by now never was. A second call does nothing more."""
        self._discard(self._producer)
        if self._discarding:
            await asyncio.wait(self._discarding, timeout=CLOSE_S)

    async def _send(
        self,
        records: Sequence[tuple[str, bytes | None, bytes, list[tuple[str, bytes]]]],
        timeout_s: float,
    ) -> list[BaseException | None]:
        """What kept each from being acknowledged; nothing for those that were."""
        futures: list[asyncio.Future[Any] | None] = [None] * len(records)
        producer: AIOKafkaProducer | None = None
        try:
            async with asyncio.timeout(timeout_s):
                producer = await self._connected()
                for number, (topic, key, value, headers) in enumerate(records):
                    future = await producer.send(topic, value, key=key, headers=headers)
                    future.add_done_callback(_looked_at)
                    futures[number] = future
                if sent := [future for future in futures if future is not None]:
                    await asyncio.wait(sent)
        except TimeoutError:
            _log.warning("Kafka did not acknowledge %d records within %g s", len(records), timeout_s)
        except (KafkaError, OSError) as error:
            _log.warning("Kafka does not take records: %r", error)
        faults = [_fault(future) for future in futures]
        # Too late, or an error that is final (aiokafka retries the others itself): sequence lost, fenced, not allowed.
        if any(fault is not None for fault in faults):
            self._discard(producer)
        return faults

    async def _connected(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    compression_type="lz4",
                    max_batch_size=BATCH_BYTES,
                    max_request_size=UNLIMITED,
                    request_timeout_ms=round(REQUEST_TIMEOUT_S * 1000),
                )
                try:
                    await start(producer)
                except BaseException:
                    self._discard(producer)
                    raise
                self._producer = producer
            return self._producer

    def _discard(self, producer: AIOKafkaProducer | None) -> None:
        """Forget a producer and its queue now; its connections are closed by a task of their own."""
        if producer is None:
            return
        if self._producer is producer:
            self._producer = None
        task = end(producer)
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)


def cloud_event(fact: Fact) -> list[tuple[str, bytes]]:
    """The headers of CloudEvents 1.0 in binary mode. The same fact sent twice has the same id."""
    kind = str(fact.__struct_config__.tag)
    parts = [kind, fact.key]
    parts.extend(str(getattr(fact, name)) for name in ("version", "epoch") if hasattr(fact, name))
    times = (getattr(fact, name, None) for name in ("at_ms", "decided_at_ms", "reserved_at_ms"))
    time = next((ms for ms in times if ms is not None), None)
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", "/".join(parts).encode()),
        ("ce_source", f"/fairline/sales/{fact.sale_id}".encode()),
        ("ce_type", kind.encode()),
        ("ce_time", rfc3339(now_ms() if time is None else time).encode()),
        ("content-type", b"application/json"),
    ]


def rfc3339(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 UTC."""
    return at(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fault(future: asyncio.Future[Any] | None) -> BaseException | None:
    if future is None or not future.done() or future.cancelled():
        return UnavailableError("not acknowledged")
    return future.exception()


def _looked_at(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # or asyncio would complain of one that nobody waits for any more
