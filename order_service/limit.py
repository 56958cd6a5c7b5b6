"""How many records may be given up before that itself is the trouble: not the records but Postgres is broken then.

At the limit nothing more is given up: what cannot be written is deferred, its offset stays, its buyers stay RESERVED
and the units stay theirs. It is over by itself as soon as enough is written again. One a writer, in memory: a new
process begins at nothing, which is why the writer does not end at the limit.
"""

from collections import deque
from typing import Final, TypeAlias

LATELY: Final = 1_000  # records, decided last, of which the share is taken

Place: TypeAlias = tuple[str, int, int]


class Limit:
    """At most ``in_a_row`` given up with nothing written between, and ``share`` of the last thousand.

    Fewer than a thousand count as if those before had all been written, so that one of two is no half.
    """

    def __init__(self, *, in_a_row: int, share: float) -> None:
        self._most_in_a_row = in_a_row
        self._most_lately = max(1, int(share * LATELY))
        self._in_a_row: set[Place] = set()
        self._lately: deque[bool] = deque(maxlen=LATELY)

    @property
    def in_a_row(self) -> bool:
        """Whether nothing was written since as many were given up as may be in a row."""
        return len(self._in_a_row) >= self._most_in_a_row

    def reached(self) -> str:
        """What is reached, in words; nothing while one more may be given up."""
        if self.in_a_row:
            return f"{len(self._in_a_row)} were given up in a row"
        lost = sum(self._lately)
        if lost >= self._most_lately:
            return f"{lost} of the last {LATELY} were given up"
        return ""

    def written(self, count: int = 1) -> None:
        """So many were written; none says nothing."""
        if count:
            self._in_a_row.clear()
        self._lately.extend([False] * min(count, LATELY))

    def given_up(self, place: Place) -> None:
        """One was given up; the same one again, because Kafka did not take it, counts once."""
        if place not in self._in_a_row:
            self._in_a_row.add(place)
            self._lately.append(True)
