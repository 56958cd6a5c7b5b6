"""Sends what can never be handled to the dead-letter topic of its topic: as it came, with where from, why, how often.

The partition is left to the producer: those of the original may be more, and one must not take all.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from fairline.clock import now_ms
from fairline.events import DEAD_LETTERS
from fairline.stream.reader import Record
from fairline.stream.writer import EventWriter, rfc3339

REASON_LENGTH: Final = 1000


class Letter(Protocol):
    """What is given up."""

    @property
    def record(self) -> Record:
        """As it came."""

    @property
    def reason(self) -> str:
        """Of the last attempt."""

    @property
    def attempts(self) -> int:
        """How many."""


async def send_dead_letters(publisher: EventWriter, letters: Sequence[Letter], timeout_s: float) -> bool:
    """Send them at the same time; whether all were acknowledged."""
    acknowledged = await asyncio.gather(
        *(
            publisher.send_raw(
                f"{letter.record.topic}{DEAD_LETTERS}",
                letter.record.key,
                letter.record.value,
                [*letter.record.headers, *origin(letter)],
                timeout_s,
            )
            for letter in letters
        )
    )
    return all(acknowledged)


def origin(letter: Letter) -> list[tuple[str, bytes]]:
    """The headers that a dead letter has besides those it came with."""
    record = letter.record
    return [
        ("fairline-origin-topic", record.topic.encode()),
        ("fairline-origin-partition", str(record.partition).encode()),
        ("fairline-origin-offset", str(record.offset).encode()),
        ("fairline-reason", letter.reason[:REASON_LENGTH].encode(errors="replace")),
        ("fairline-attempts", str(letter.attempts).encode()),
        ("fairline-given-up-at", rfc3339(now_ms()).encode()),
    ]
