"""Reads topics from chosen offsets to their present end, as a member of no group: for jobs that look, not consumers.

Nothing is committed and nobody is disturbed, so the same scan may be made by many and again.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from fairline.errors import UnavailableError
from fairline.stream.connection import start, stop
from fairline.stream.reader import REQUEST_TIMEOUT_S, Partition, Record, record_of

POLL_MS: Final = 200
AT_ONCE: Final = 100  # records of an answer, each of a megabyte at most
MOST_BYTES: Final = 64 * 1024 * 1024


class Scan(NamedTuple):
    """What was found; ``complete`` unless ``most``, ``most_bytes`` or the time was reached before the end."""

    records: tuple[Record, ...]
    complete: bool


async def scan(
    bootstrap: str,
    topics: Sequence[str],
    client_id: str,
    *,
    starts: Mapping[Partition, int],
    most: int,
    most_bytes: int = MOST_BYTES,
    within_s: float,
) -> Scan:
    """The records of these topics from ``starts`` on, at most so many; from the first one where no start is named.

    A start that is not there (any more, or yet) is the first one too. In order within a partition. Ends with the answer
    that reaches ``most_bytes`` of values, in which those at the starts do not count: a scan that goes on from the last
    one always gets further. Costs a connection and a fetch or two for each partition. Raises ``UnavailableError`` when
    Kafka does not answer within ``within_s``.
    """
    deadline = time.monotonic() + within_s
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        client_id=client_id,
        group_id=None,
        enable_auto_commit=False,
        request_timeout_ms=round(REQUEST_TIMEOUT_S * 1000),
        fetch_max_wait_ms=POLL_MS,
    )
    try:
        async with asyncio.timeout(within_s):
            await start(consumer)
            ends = await _seek(consumer, starts)
        found: list[Record] = []
        size = 0
        while ends and len(found) < most and size < most_bytes and time.monotonic() < deadline:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                got = await consumer.getmany(*ends, timeout_ms=POLL_MS, max_records=min(AT_ONCE, most - len(found)))
                new = [record_of(raw) for part in got.values() for raw in part]
                found += new
                size += sum(len(record.value) for record in new if starts.get(record.where) != record.offset)
                ends = {part: end for part, end in ends.items() if await consumer.position(part) < end}
        return Scan(tuple(found), complete=not ends)
    except (TimeoutError, KafkaError, OSError, UnicodeDecodeError) as error:  # the last: a header's name, see reader
        raise UnavailableError(f"Kafka cannot be read: {error!r}") from error
    finally:
        await stop(consumer)


async def _seek(consumer: AIOKafkaConsumer, starts: Mapping[Partition, int]) -> dict[TopicPartition, int]:
    """Go to the starts; where each partition that has something ends."""
    parts = list(consumer.assignment())
    first, last = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
    ends = {}
    for part in parts:
        start = starts.get(Partition(*part), first[part])
        start = start if first[part] <= start <= last[part] else first[part]
        consumer.seek(part, start)
        if start < last[part]:
            ends[part] = last[part]
    return ends
