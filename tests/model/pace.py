"""The pace alone: how many are admitted in any window of real time, while Redis's own clock may jump (P1 to P3).

Time goes in ticks. The bucket is that of ``pace.lua`` in whole numbers: a window of ``WINDOW`` ticks, ``RATE`` tickets
a window, depth ``DEPTH`` tickets, and a token has ``WINDOW`` parts, so that a tick fills it by ``RATE`` less the depth.
"""

from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import NamedTuple

WINDOW, RATE, DEPTH = 4, 4, 2
TICKS = 3 * WINDOW


class Pace(NamedTuple):
    """One instant. ``admitted`` has a number for each of the last ``WINDOW`` ticks, the present one last."""

    tick: int = 0
    ahead: int = 0  # Redis's clock less real time
    jumps: int = 1  # that may still come
    changes: int = 1  # of the rate, likewise
    rate: int = RATE
    tokens: int = DEPTH * WINDOW
    filled: int = 0
    admitted: tuple[int, ...] = (0,) * WINDOW
    asked: tuple[int, int] = (0, 0)  # what two controllers were told may go (without P1)
    quiet_until: int = -1  # by Redis's clock: nobody is admitted after a recovery (P3)
    stalled: bool = False  # the last attempt left a bucket that is not filled until the clock has caught up
    allowed: int = RATE  # the highest rate of the last window, and the depth for each jump

    @property
    def now(self) -> int:
        return self.tick + self.ahead


class Found(NamedTuple):
    """The number of states, the fault if there is one, and the way to it."""

    states: int
    fault: str
    trace: tuple[str, ...]


VARIANTS = {
    "P1": ("to count and to admit are two calls", frozenset({"P1"})),
    "P1-depth": ("the bucket is as deep as the rate of a window", frozenset({"P1-depth"})),
    "P1-fill": ("a bucket of some depth is filled at the full rate", frozenset({"P1-fill"})),
    "P2-back": ("a clock that went back is waited for", frozenset({"P2-back"})),
    "P3-recover": ("a recovered sale starts with a full bucket at once", frozenset({"P3-recover"})),
}


def filled(pace: Pace, without: AbstractSet[str]) -> int:
    """The tokens there are now."""
    depth = (pace.rate if "P1-depth" in without else DEPTH) * WINDOW
    elapsed = max(0, pace.now - pace.filled)
    speed = pace.rate if "P1-fill" in without else pace.rate - DEPTH
    return min(depth, pace.tokens + elapsed * speed)


def steps(pace: Pace, without: AbstractSet[str], *, recoveries: bool) -> Iterator[tuple[str, Pace]]:
    if pace.tick < TICKS:
        yield "a tick", pace._replace(tick=pace.tick + 1, admitted=(*pace.admitted[1:], 0))
    for by in (-WINDOW, WINDOW) if pace.jumps else ():
        jumped = pace._replace(ahead=pace.ahead + by, jumps=pace.jumps - 1, allowed=pace.allowed + DEPTH)
        yield f"Redis's clock jumps by {by:+d}", jumped
    if pace.changes and not recoveries:
        settled = pace._replace(tokens=filled(pace, without), filled=pace.now)
        faster = settled._replace(rate=2 * RATE, changes=0, allowed=pace.allowed - pace.rate + 2 * RATE)
        yield "the rate is doubled", faster
    if pace.changes and recoveries:
        kept = pace._replace(changes=0, tokens=DEPTH * WINDOW, filled=pace.now)
        empty = kept._replace(tokens=0, quiet_until=pace.now + WINDOW)
        yield "the sale is recovered", kept if "P3-recover" in without else empty
    tokens = filled(pace, without)
    last = pace.filled if "P2-back" in without and pace.now < pace.filled else pace.now
    one_more = (*pace.admitted[:-1], pace.admitted[-1] + 1)
    if "P1" in without:
        for who in (0, 1):
            if pace.asked[who]:
                asked = (0, pace.asked[1]) if who == 0 else (pace.asked[0], 0)
                yield (
                    f"c{who} admits",
                    pace._replace(tokens=max(0, tokens - WINDOW), filled=last, admitted=one_more, asked=asked),
                )
            elif tokens >= WINDOW:
                yield (
                    f"c{who} is told that one may go",
                    pace._replace(asked=(1, pace.asked[1]) if who == 0 else (pace.asked[0], 1)),
                )
    elif tokens >= WINDOW and pace.now >= pace.quiet_until:
        yield "one is admitted", pace._replace(tokens=tokens - WINDOW, filled=last, admitted=one_more)
    else:
        yield "nobody may go", pace._replace(tokens=tokens, filled=last, stalled=last > pace.now)


def explore(without: AbstractSet[str] = frozenset(), *, recoveries: bool = False) -> Found:
    """Every instant that can come about. With ``recoveries`` one of those instead of jumps and a change of the rate."""
    first = Pace(jumps=0) if recoveries else Pace()
    origins: dict[Pace, tuple[Pace, str] | None] = {first: None}
    todo = deque([first])
    while todo:
        pace = todo.popleft()
        for name, then in steps(pace, without, recoveries=recoveries):
            if then in origins:
                continue
            origins[then] = (pace, name)
            if fault := fault_of(then):
                return Found(len(origins), fault, tuple(way_to(then, origins)))
            todo.append(then)
    return Found(len(origins), "", ())


def fault_of(pace: Pace) -> str:
    """6, and that a clock stalls nothing for longer than a window."""
    if sum(pace.admitted) > pace.allowed:
        return f"6 never faster than told: {sum(pace.admitted)} within a window, {pace.allowed} are allowed"
    if pace.stalled:
        return "2 never undersold: nobody is admitted until the clock has caught up"
    return ""


def way_to(pace: Pace, origins: dict[Pace, tuple[Pace, str] | None]) -> list[str]:
    """The steps to an instant."""
    way = []
    while (origin := origins[pace]) is not None:
        pace, name = origin
        way.append(name)
    return way[::-1]
