"""Records that must wait while others go on: which, until when, and whether their partitions may be read further.

The offset of a partition never passes a record kept here, so a crash loses none. Bounded: of a partition that holds
``most`` the writer keeps no more of those that are sent again anyway, and with as many others it stops reading it; so
at most twice that number and two batches are kept.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fairline.runtime.retry import spread
from fairline.stream.reader import Partition, Record


@dataclass
class _Kept:
    record: Record
    due: float
    tries: int
    lasting: bool


class Deferred:
    """Times are seconds of a monotonic clock that the caller reads."""

    def __init__(
        self, *, first_s: float, longest_s: float, most: int, spread: Callable[[float], float] = spread
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._most = most
        self._spread = spread
        self._kept: dict[tuple[str, int, int], _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, record: Record) -> bool:
        return _place(record) in self._kept

    def records(self) -> list[Record]:
        """All of them."""
        return [kept.record for kept in self._kept.values()]

    def keep(self, record: Record, now: float, *, lasting: bool = False) -> bool:
        """Keep a record, for about twice as long each time; whether it is new here. ``lasting``: it comes once only."""
        before = self._kept.get(_place(record))
        tries = before.tries + 1 if before else 0
        wait = min(self._longest_s, self._first_s * 2 ** min(tries, 30))
        self._kept[_place(record)] = _Kept(record, now + self._spread(wait), tries, lasting)
        return before is None

    def drop(self, records: Iterable[Record]) -> None:
        """These wait no more; others are not minded."""
        for record in records:
            self._kept.pop(_place(record), None)

    def clear(self) -> None:
        """All come again from Kafka."""
        self._kept.clear()

    def due(self, now: float, most: int) -> list[Record]:
        """Those whose time has come, at most so many, the longest waiting first."""
        ready = sorted((kept for kept in self._kept.values() if kept.due <= now), key=lambda kept: kept.due)
        return [kept.record for kept in ready[:most]]

    def next_due_s(self, now: float, otherwise: float) -> float:
        """Seconds until the next is due, ``otherwise`` when none is kept."""
        return max(0.0, min((kept.due - now for kept in self._kept.values()), default=otherwise))

    def full(self) -> set[Partition]:
        """The partitions that hold as many as they may."""
        return self._with_most(self._kept.values())

    def stuck(self) -> set[Partition]:
        """The partitions that hold as many lasting ones, and must be read no further."""
        return self._with_most(kept for kept in self._kept.values() if kept.lasting)

    def _with_most(self, some: Iterable[_Kept]) -> set[Partition]:
        counts = Counter(kept.record.where for kept in some)
        return {where for where, count in counts.items() if count >= self._most}


def _place(record: Record) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset
