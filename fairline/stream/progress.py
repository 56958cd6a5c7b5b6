"""How far a group of readers has come, seen from outside it.

    ends = await ends_of("host:9092", [events.ORDERS])      what the topics hold now
    left = await behind("host:9092", group, ends)           how much of that the group has not committed yet

Both connect, ask and go; both raise ``UnavailableError`` when Kafka does not answer within ``within_s``.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from fairline.errors import UnavailableError
from fairline.stream.connection import start, stop
from fairline.stream.reader import Partition

WITHIN_S: Final = 5.0


async def ends_of(bootstrap: str, topics: Sequence[str], *, within_s: float = WITHIN_S) -> dict[Partition, int]:
    """The offset after the last record of each partition, of those that hold any."""
    consumer = AIOKafkaConsumer(
        *topics,  # a client knows the partitions of no others
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        request_timeout_ms=round(within_s * 1000),
    )
    try:
        async with asyncio.timeout(within_s):
            await start(consumer)
            ends = await consumer.end_offsets(list(consumer.assignment()))
    except (TimeoutError, KafkaError, OSError) as error:
        raise UnavailableError(f"Kafka does not say how much there is: {error!r}") from error
    finally:
        await stop(consumer)
    return {Partition(*where): end for where, end in ends.items() if end}


async def behind(bootstrap: str, group: str, ends: Mapping[Partition, int], *, within_s: float = WITHIN_S) -> int:
    """Records before ``ends`` that the group has not committed; it may have done more than it has committed."""
    if not ends:
        return 0
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=round(within_s * 1000))
    try:
        async with asyncio.timeout(within_s):
            await start(admin)
            found = await admin.list_consumer_group_offsets(
                group, partitions=[TopicPartition(*where) for where in ends]
            )
    except (TimeoutError, KafkaError, OSError) as error:
        raise UnavailableError(f"Kafka does not say how far {group} is: {error!r}") from error
    finally:
        await stop(admin)
    committed = {Partition(*where): max(0, at.offset) for where, at in found.items()}
    return sum(max(0, end - committed.get(where, 0)) for where, end in ends.items())
