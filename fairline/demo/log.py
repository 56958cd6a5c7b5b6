"""The crowd's own log: every call and every frame, with the time it was sent or received.

It is all that the verdict believes about what buyers were told. Times are seconds of this process's monotonic clock.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fairline.states import TERMINAL, State

JOINED = "joined"  # the word for a request that got a ticket of its own
LIVE = "live"  # the buyer has a ticket for this sku already, and got that one
NO_ANSWER = "no_answer"

Via = Literal["join", "socket", "status"]


@dataclass(slots=True)
class Call:
    """One purchase request: the first attempt was sent at ``sent_s``, the last one was answered at ``answered_s``.

    ``word`` is ``joined``, ``live``, or the code of the refusal; a repeat after a lost answer carries the same key.
    """

    buyer_id: str
    sku: str
    key: str
    sent_s: float
    answered_s: float | None = None
    status: int = 0
    word: str = NO_ANSWER
    ticket_id: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class PutOff:
    """An attempt that was to be made again, and how long it had taken: refused for now, or with no answer at all.

    ``status`` is 0 where there was no answer; ``word`` is the refusal's code, or what became of the connection.
    """

    at_s: float
    took_s: float
    status: int
    word: str
    retry_after_s: float = 0.0


@dataclass(slots=True)
class Told:
    """A state that a buyer was told, and how. ``units`` is None where the answer does not tell them.

    ``asked_s`` is when the question was sent; 0 for a frame, which nobody asked for.
    """

    at_s: float
    via: Via
    state: str
    reason: str | None = None
    units: tuple[int, ...] | None = None
    asked_s: float = 0.0

    @property
    def final(self) -> bool:
        """Whether a buyer may take it for the end."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True)
class Place:
    """A place in line as a buyer worked it out from a progress frame; connections are counted over the whole log."""

    at_s: float
    connection: int
    place: int


@dataclass(slots=True)
class Held:
    """A ticket as its buyer knows it.

    ``number`` is 0 until a frame told it.
    """

    ticket_id: str
    sku: str
    buyer_id: str
    arrival: int
    token: str
    status_url: str
    ws_url: str
    sent_s: float
    answered_s: float
    number: int = 0
    told: list[Told] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """In which the arrival was given."""
        return self.arrival >> 40

    @property
    def outcome(self) -> Told | None:
        """The first final state that was told, if any."""
        return next((told for told in self.told if told.final), None)

    @property
    def units(self) -> tuple[int, ...]:
        """The units that were told to be the buyer's own, none unless CONFIRMED."""
        return next((told.units for told in self.told if told.state == State.CONFIRMED and told.units), ())

    @property
    def state(self) -> str:
        """The last state that was told."""
        return self.told[-1].state if self.told else State.WAITING

    @property
    def admitted_s(self) -> float | None:
        """When the buyer first knew of having been admitted, or of what only comes after that."""
        for told in self.told:
            if was_admitted(told.state, told.reason):
                return told.at_s
        return None


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
        counted: dict[str, int] = {}
        for call in self.calls:
            counted[call.word] = counted.get(call.word, 0) + 1
        return dict(sorted(counted.items(), key=lambda each: (-each[1], each[0])))

    def join_ms(self) -> list[float]:
        """From sending a request to its answer."""
        return [(call.answered_s - call.sent_s) * 1000 for call in self.calls if call.answered_s is not None]

    def result_ms(self) -> list[float]:
        """From sending the request that made a ticket to hearing how it ended."""
        return [(end.at_s - held.sent_s) * 1000 for held in self.tickets.values() if (end := held.outcome)]

    def answered_s(self) -> float:
        """From the first request to the last answer."""
        return max((call.answered_s for call in self.calls if call.answered_s), default=self.began_s) - self.began_s

    def told_s(self) -> float:
        """From the first request to the last buyer who was told how it ended, by a refusal or by a ticket's end."""
        ends = [end.at_s for held in self.tickets.values() if (end := held.outcome)]
        return max([*ends, self.began_s + self.answered_s()]) - self.began_s


def was_admitted(state: str, reason: str | None) -> bool:
    """Whether a ticket in this state has been admitted at least once."""
    if state == State.DECLINED:
        return reason not in {"sale_closed", "not_enough_left"}  # those are said to tickets that wait
    return state in {State.ADMITTED, State.RESERVED, State.CONFIRMED, State.RELEASED, State.LAPSED}


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """p50, p95 and p99, each a value that occurred (nearest rank); zeros where there is none."""
    ordered: Sequence[float] = sorted(values)
    if not ordered:
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    return {f"p{share}": round(ordered[math.ceil(share / 100 * len(ordered)) - 1], 1) for share in (50, 95, 99)}
