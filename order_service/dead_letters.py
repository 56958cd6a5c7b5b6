"""Sends what can never be handled to the dead-letter topic of its topic: as it came, with where from, why, how often.

The partition is left to the producer: those of the original may be more, and one must not take all.

One that Kafka does not take because it is too large (a record that just fits does not with these headers) is cut, and
says how long it was: the whole of it is where it came from, and nothing behind it must wait for it.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from fairline.clock import now_ms
from fairline.events import DEAD_LETTERS
from fairline.stream.reader import Record
from fairline.stream.writer import EventWriter, TooLargeError, rfc3339

REASON_LENGTH: Final = 1000
# What is left of one that is too large, together far below what any Kafka takes.
CUT_VALUE: Final = 64 * 1024
CUT_TEXT: Final = 1024
CUT_HEADERS: Final = 50


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
    """Send them; whether all were acknowledged. None is sent after one that was not."""
    # One after another: Kafka's refusal of one that is too large ends its producer, and what that had in hand.
    for letter in letters:
        if not await _send(publisher, letter, timeout_s):
            return False
    return True


async def _send(publisher: EventWriter, letter: Letter, timeout_s: float) -> bool:
    record = letter.record
    topic = f"{record.topic}{DEAD_LETTERS}"
    headers = [*record.headers, *origin(letter)]
    try:
        return await publisher.send_raw(topic, record.key, record.value, headers, timeout_s)
    except TooLargeError:
        key = None if record.key is None else record.key[:CUT_TEXT]
        headers = [(name[:CUT_TEXT], value[:CUT_TEXT]) for name, value in record.headers[:CUT_HEADERS]]
        headers += origin(letter, f"too large, so cut from {len(record.value)} bytes; ")
        return await publisher.send_raw(topic, key, record.value[:CUT_VALUE], headers, timeout_s)


def origin(letter: Letter, also: str = "") -> list[tuple[str, bytes]]:
    """The headers that a dead letter has besides those it came with; ``also`` is said before the reason."""
    record = letter.record
    return [
        ("fairline-origin-topic", record.topic.encode()),
        ("fairline-origin-partition", str(record.partition).encode()),
        ("fairline-origin-offset", str(record.offset).encode()),
        ("fairline-reason", (also + letter.reason)[:REASON_LENGTH].encode(errors="replace")),
        ("fairline-attempts", str(letter.attempts).encode()),
        ("fairline-given-up-at", rfc3339(now_ms()).encode()),
    ]
