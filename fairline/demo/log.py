"""What the crowd itself knows of its requests and tickets: what to do next, and the figures of the report.

Nothing is judged by it: that is done by the history which is written beside it, line by line (``loadtest.recorder``).
Times are seconds of this process's monotonic clock.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fairline.states import TERMINAL, State
from fairline.store.tickets import ARRIVALS_AN_EPOCH

JOINED = "joined"  # the word for a request that got a ticket of its own
LIVE = "live"  # the buyer has a ticket for this sku already, and got that one
NO_ANSWER = "no_answer"


@dataclass(slots=True)
class Call:
    """One purchase request: the first attempt was sent at ``sent_s``, the last one was answered at ``answered_s``.

    ``word`` is ``joined``, ``live``, or the code of the refusal; a repeat after a lost answer carries the same key.
    """

    sent_s: float
    answered_s: float | None = None
    word: str = NO_ANSWER
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class PutOff:
    """An attempt that was to be made again, and how long it had taken: refused for now, or with no answer at all.

    ``status`` is 0 where there was no answer; ``word`` is the refusal's code, or what became of the connection.
    """

    took_s: float
    status: int
    word: str
    retry_after_s: float = 0.0


@dataclass(slots=True)
class Held:
    """A ticket as its buyer knows it: asked for at ``sent_s``, told its end at ``ended_s``."""

    ticket_id: str
    sku: str
    arrival: int
    token: str
    status_url: str
    ws_url: str
    sent_s: float
    state: str = State.WAITING
    ended_s: float | None = None

    @property
    def epoch(self) -> int:
        """In which the arrival was given."""
        return self.arrival // ARRIVALS_AN_EPOCH

    def hear(self, state: str, at_s: float) -> None:
        """Told a state. The first end stays; whether another one may be told is the checker's to say."""
        if self.ended_s is None:
            self.state = state
            self.ended_s = at_s if state in TERMINAL else None


@dataclass(slots=True)
class Log:
    """All of it."""

    began_s: float = 0.0
    calls: list[Call] = field(default_factory=list)
    tickets: dict[str, Held] = field(default_factory=dict)
    put_off: list[PutOff] = field(default_factory=list)
    frames: int = 0
    connections: int = 0

    def answers(self) -> dict[str, int]:
        """Requests by their answer, the most frequent first; they add up to the requests."""
        counted = Counter(call.word for call in self.calls)
        return dict(sorted(counted.items(), key=lambda each: (-each[1], each[0])))

    def join_ms(self) -> list[float]:
        """From sending a request to its answer."""
        return [(call.answered_s - call.sent_s) * 1000 for call in self.calls if call.answered_s is not None]

    def result_ms(self) -> list[float]:
        """From sending the request that made a ticket to hearing how it ended."""
        return [(held.ended_s - held.sent_s) * 1000 for held in self.tickets.values() if held.ended_s is not None]

    def answered_s(self) -> float:
        """From the first request to the last answer."""
        return max((call.answered_s for call in self.calls if call.answered_s), default=self.began_s) - self.began_s

    def told_s(self) -> float:
        """From the first request to the last buyer who was told how it ended, by a refusal or by a ticket's end."""
        ends = [held.ended_s for held in self.tickets.values() if held.ended_s is not None]
        return max([*ends, self.began_s + self.answered_s()]) - self.began_s


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p95 and p99, each a value that occurred (nearest rank); zeros where there is none."""
    ordered: Sequence[float] = sorted(values)
    if not ordered:
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    return {f"p{share}": round(ordered[math.ceil(share / 100 * len(ordered)) - 1], 1) for share in (50, 95, 99)}
