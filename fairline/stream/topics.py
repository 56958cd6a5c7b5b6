"""Makes the topics, and those of their dead letters, where they are missing: ``python -m fairline.stream.topics``.

It changes nothing of a topic that is there, so it may run before every start. The brokers are those of
``FAIRLINE_KAFKA``; exit code 0 when all topics are there, else 1 with one line that says why.
"""

import argparse
import asyncio
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from fairline.events import DEAD_LETTERS, TOPICS
from fairline.stream.connection import start, stop

ALL: Final = (*TOPICS, *(f"{topic}{DEAD_LETTERS}" for topic in TOPICS))
REQUEST_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 0.3
# Dead letters wait for a person; the verdicts behind them are rows of Postgres and outlive this.
DEAD_LETTER_RETENTION_S: Final = 30 * 24 * 3600

_BROKERS: Final = re.compile(r"[^\s,]+:\d+(,[^\s,]+:\d+)*")


def order_service_group(topic: str) -> str:
    """The group in which order_service reads a topic: one for each, as a sale must be known while an order waits."""
    return f"fairline-order-service-{topic.rpartition('.')[2]}"


class TopicError(Exception):
    """The topics cannot be made; the message says why in one line."""


async def create(
    bootstrap: str, *, partitions: int, replication: int, within_s: float, topics: Sequence[str] = ALL
) -> list[str]:
    """Make the missing ones of ``topics``; which ones those were. Waits for the brokers until ``within_s`` is over.

    Raises ``TopicError`` when time is over, when Kafka refuses a topic for good, or where no Kafka can be.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            async with asyncio.timeout(max(0.1, deadline - time.monotonic())):
                return await _create(bootstrap, partitions, replication, topics)
        except (OverflowError, UnicodeError) as error:  # a port or a host that none can be
            raise TopicError(f"Kafka at {bootstrap} cannot be an address: {error}") from error
        except (KafkaError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            if not getattr(error, "retriable", True):
                raise TopicError(f"Kafka at {bootstrap} refuses the topics: {reason}") from error
            if time.monotonic() + RETRY_S >= deadline:
                raise TopicError(f"Kafka at {bootstrap} did not answer within {within_s:g} s: {reason}") from error
            await asyncio.sleep(RETRY_S)


async def _create(bootstrap: str, partitions: int, replication: int, topics: Sequence[str]) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=round(REQUEST_TIMEOUT_S * 1000))
    try:
        await start(admin)
        there = set(await admin.list_topics())
        missing = [topic for topic in topics if topic not in there]
        if not missing:
            return []
        answer: Any = await admin.create_topics([_topic(name, partitions, replication) for name in missing])
        for name, code, *message in answer.topic_errors:
            error = for_code(code)
            if code != 0 and error is not TopicAlreadyExistsError:  # somebody else made it just now
                raise error(f"{name}: {(message or [None])[0] or error.description}")
        return missing
    finally:
        await stop(admin)


def _topic(name: str, partitions: int, replication: int) -> NewTopic:
    more = {"retention.ms": str(DEAD_LETTER_RETENTION_S * 1000)} if name.endswith(DEAD_LETTERS) else {}
    return NewTopic(name, partitions, replication, topic_configs=more)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="fairline.stream.topics", description="Make the Kafka topics of Fairline.")
    parser.add_argument("--partitions", type=_positive, default=4, help="of each new topic (default: 4)")
    parser.add_argument("--replication", type=_positive, default=1, help="copies of each new topic (default: 1)")
    parser.add_argument("--within-s", type=_seconds, default=30.0, help="how long to wait for Kafka (default: 30)")
    chosen = parser.parse_args(arguments)
    bootstrap = os.environ.get("FAIRLINE_KAFKA", "")
    if not _BROKERS.fullmatch(bootstrap):
        print(f"topics: FAIRLINE_KAFKA={bootstrap!r}: must be host:port[,host:port...]", file=sys.stderr)  # noqa: T201
        return 1
    try:
        made = asyncio.run(
            create(
                bootstrap,
                partitions=chosen.partitions,
                replication=chosen.replication,
                within_s=chosen.within_s,
            )
        )
    except TopicError as error:
        print(f"topics: {error}", file=sys.stderr)  # noqa: T201 - a command prints
        return 1
    print(f"topics: made {', '.join(made)}" if made else "topics: all there")  # noqa: T201
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < math.inf:  # with one that is no number no wait would ever end
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
