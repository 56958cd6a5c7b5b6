"""Invariants 5 and 6, which are about time: who stands before whom, and how fast the line moves.

Only what is sure is a fault. The client's clock brackets what happened: an act is after its request was sent and
before it was told, so a short stretch of the log can never hold more than happened in it.
"""

from collections import defaultdict
from itertools import pairwise

from fairline.demo.log import Held, Log, was_admitted
from fairline.demo.watch import Seen


def faults_of_order(log: Log, seen: Seen) -> list[str]:
    """What breaks the order of arrivals, of admissions, or of places."""
    tickets = list(log.tickets.values())
    by_sku: dict[str, list[Held]] = defaultdict(list)
    for held in tickets:
        by_sku[held.sku].append(held)
    return [
        *_arrivals_against_answers(tickets),
        *(fault for line in by_sku.values() for fault in _passed_over(line)),
        *(fault for line in by_sku.values() for fault in _admitted_out_of_turn(line, seen)),
        *(fault for held in tickets for fault in _place_grew(held)),
    ]


def _arrivals_against_answers(tickets: list[Held]) -> list[str]:
    """A join that was answered before another was sent has the smaller arrival; no arrival is given twice."""
    faults = []
    if len({held.arrival for held in tickets}) < len(tickets):
        faults.append("an arrival was given twice")
    answered = sorted(tickets, key=lambda held: held.answered_s)
    highest, at = 0, 0
    for held in sorted(tickets, key=lambda held: held.sent_s):
        while at < len(answered) and answered[at].answered_s < held.sent_s:
            highest = max(highest, answered[at].arrival)
            at += 1
        if held.arrival < highest:
            faults.append(f"arrival {held.arrival} was sent after arrival {highest} had been answered")
    return faults


def _passed_over(line: list[Held]) -> list[str]:
    """Who was never admitted has nobody behind who was; leaving the line is one's own doing."""
    admitted = [held.arrival for held in line if _ever_admitted(held)]
    last = max(admitted, default=0)
    return [
        f"{held.sku}: arrival {held.arrival} ended {held.state} without a turn, arrival {last} had one"
        for held in line
        if held.arrival < last and not _ever_admitted(held) and held.state != "LEFT" and held.outcome is not None
    ]


def _admitted_out_of_turn(line: list[Held], seen: Seen) -> list[str]:
    """The first moves of admitted tickets, in Redis's own order, are by arrival."""
    if not seen.listened:
        return []
    admitted = [held for held in line if _ever_admitted(held)]
    faults = [
        f"{held.sku}: the move of arrival {held.arrival} was not seen"
        for held in admitted
        if held.ticket_id not in seen.moved
    ]
    turns = sorted((seen.moved[held.ticket_id], held.arrival) for held in admitted if held.ticket_id in seen.moved)
    faults += [
        f"{line[0].sku}: arrival {after} was admitted before arrival {before}"
        for (_, after), (_, before) in pairwise(turns)
        if before < after
    ]
    return faults


def _place_grew(held: Held) -> list[str]:
    """Within one connection: after a lost one, another copy of the notifier may know less for a moment.

    Not after a rebuild: whoever comes back late to an old place stands before those of the new epoch again (D4).
    """
    if held.epoch > 0:
        return []
    for before, after in pairwise(held.places):
        if after.place > before.place and after.connection == before.connection:
            return [f"ticket {held.ticket_id} went from place {before.place} to {after.place}"]
    return []


def _ever_admitted(held: Held) -> bool:
    return any(was_admitted(told.state, told.reason) for told in held.told)


def faults_of_pace(log: Log, *, rate: float | None, opened_s: float) -> tuple[list[str], str]:
    """The fullest stretch in words, and as a fault where more were surely admitted in it than rule P1 gives.

    Counted in a stretch are those who were sent after its begin and told of their admission before its end; the
    bucket holds b and fills at (R - b) / W, so a stretch of s seconds gives at most b + s (R - b) / W.
    """
    if rate is None:
        return [], ""
    window_s = max(10.0, 10.0 / rate)
    depth = max(1.0, rate * 0.1)
    fill = (window_s * rate - depth) / window_s
    admitted = [(held.sent_s, at_s) for held in log.tickets.values() if (at_s := held.admitted_s) is not None]
    fullest, words = -1.0, "nobody was admitted"
    for begin in sorted({opened_s, *(sent for sent, _ in admitted)}):
        ends = sorted(told for sent, told in admitted if sent >= begin)
        for count, end in enumerate(ends, 1):
            allowed = depth + fill * (end - begin)
            if count / allowed > fullest:
                fullest, words = count / allowed, f"{count} admitted within {end - begin:.2f} s, {allowed:.1f} allowed"
    words = f"fullest stretch {words}"
    return [f"{rate:g}/s: {words}"] if fullest > 1 else [], words
