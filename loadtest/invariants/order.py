"""Invariant 5: who came first goes first, by the server's own numbers and by the clock on the wall."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from math import inf
from operator import attrgetter

from fairline.frames import ProgressFrame, TicketFrame, position
from fairline.states import State
from loadtest.case import Case, Life, was_admitted
from loadtest.finals import Ticket
from loadtest.history import Frame
from loadtest.report import Report


def in_order(case: Case, report: Report) -> str:
    """5: arrivals follow the clients' clocks, admissions follow the arrivals of each sku, and no place grows."""
    again = _arrivals_once(case, report)
    lives = [
        life
        for life in case.lives.values()
        if len(life.arrivals) == 1 and life.existed_s < inf and life.ticket_id not in again
    ]
    if not case.lossless:  # D4: who comes back to a lost place may stand before who came later with a new ticket
        known = defaultdict(list)
        for life in case.lives.values():
            known[life.buyer_id, life.sku].append(life)
        lives = [life for life in lives if len(known[life.buyer_id, life.sku]) == 1]
    _by_the_clock(report, lives)
    places = _no_place_grows(case, report)
    if case.first_epoch:
        for sku in case.redis.items:
            line = {name: each for name, each in case.redis.tickets.items() if each.sku == sku and name not in again}
            _nobody_passed_over(case, report, sku, line)
            _passed_by_the_clock(case, report, sku, line)
        seen = _moves(case, report, again)
    else:
        seen = "admissions are not compared in a sale that was rebuilt (D5)"
    if not case.known:
        report.doubt("without a history nobody knows who came first")
    return f"{len(lives):,} arrivals follow the clock, {seen}, of {places:,} places told none grew"


def _arrivals_once(case: Case, report: Report) -> set[str]:
    """No arrival is given twice, and none is lost by a retry. A readmitted ticket has that of its released one (S2)."""
    of: dict[int, set[str]] = defaultdict(set)
    for name, ticket in case.redis.tickets.items():
        of[ticket.arrival].add(name)
    for life in case.lives.values():
        for arrival in life.arrivals:
            of[arrival].add(life.ticket_id)
        record = case.redis.tickets.get(life.ticket_id)
        arrivals = life.arrivals | ({record.arrival} if record is not None else set())
        if len(arrivals) > 1 and case.lossless:
            report.fault(f"ticket {life.ticket_id} has had the arrivals {sorted(arrivals)}", life.ticket_id)
    again: set[str] = set()
    for arrival, names in of.items():
        if len(names) < 2:
            continue
        again |= names
        records = [case.redis.tickets[name] for name in names if name in case.redis.tickets]
        readmitted = (
            len(records) == len(names)
            and len({(each.buyer_id, each.sku) for each in records}) == 1
            and sum(each.state != State.RELEASED for each in records) <= 1
        )
        if not readmitted and (case.lossless or len({_who(case, name) for name in names}) > 1):
            report.fault(f"arrival {arrival} was given to {' and '.join(sorted(names))}", *names)
    return again


def _who(case: Case, name: str) -> tuple[str, str]:
    record = case.redis.tickets.get(name)
    return (record.buyer_id, record.sku) if record else (case.lives[name].buyer_id, case.lives[name].sku)


def _by_the_clock(report: Report, lives: list[Life]) -> None:
    """A join that was answered before another was sent must not come behind it."""
    answered = sorted(lives, key=attrgetter("existed_s"))
    highest, first, at = -1, answered[0] if answered else None, 0
    for life in sorted((life for life in lives if life.asked_s), key=attrgetter("asked_s")):
        while at < len(answered) and answered[at].existed_s < life.asked_s:
            if (arrival := min(answered[at].arrivals)) > highest:
                highest, first = arrival, answered[at]
            at += 1
        arrival = min(life.arrivals)
        if first is not None and arrival < highest:
            report.fault(
                f"{life.ticket_id} was asked for at {life.asked_s:.3f} and has arrival {arrival}, "
                f"{first.ticket_id} was there at {first.existed_s:.3f} and has {highest}",
                *(life.ticket_id, first.ticket_id),
            )


def _nobody_passed_over(case: Case, report: Report, sku: str, line: dict[str, Ticket]) -> None:
    """Who was never admitted has nobody behind who was, unless they left, or wanted more than there was (Q1).

    Or all was gone, and more came afterwards.
    """
    restocked = case.raised_after(sku, -inf)
    arrivals = [(each.arrival, name) for name, each in line.items() if _had_a_turn(each)]
    last, winner = max(arrivals, default=(-1, ""))
    for name, each in line.items():
        swept = each.state == State.SOLD_OUT and not restocked
        if (
            (swept or each.state == State.WAITING or each.reason == "sale_closed")
            and not _had_a_turn(each)
            and each.arrival < last
        ):
            report.fault(f"{sku}: {name} had no turn, {winner} behind it had one", name, winner)


def _had_a_turn(ticket: Ticket) -> bool:
    return ticket.tries > 0 or ticket.back or was_admitted(ticket.state, ticket.reason)


def _passed_by_the_clock(case: Case, report: Report, sku: str, line: dict[str, Ticket]) -> None:
    """Nobody is told that it is their turn while somebody before them, admitted only later, surely still waits."""
    turn, who = inf, ""
    for name, ticket in sorted(line.items(), key=lambda each: -each[1].arrival):
        life = case.lives.get(name)
        if life is None:
            continue
        if not ticket.back and life.waiting_s > turn:  # one that went back to the line waits again
            report.fault(f"{sku}: {name} still waited at {life.waiting_s:.3f}, {who} behind it was admitted", name, who)
        if (admission := case.admission(life)) is not None and admission[1] < turn:
            turn, who = admission[1], name


def _moves(case: Case, report: Report, again: set[str]) -> str:
    """The first moves of the admitted, in Redis's own order, where a bystander heard all of them."""
    if not case.history.moved:
        return "admissions were not listened to"
    if any(not moved.ticket_ids for moved in case.history.moved):
        return "admissions were listened to with gaps"
    turns: dict[str, int] = {}
    for moved in case.history.moved:
        for name in moved.ticket_ids:
            turns.setdefault(name, len(turns))
    by_sku: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    had = {name: each for name, each in case.redis.tickets.items() if _had_a_turn(each) and name not in again}
    for name in had.keys() - turns:
        report.fault(f"the channel did not tell of {name}, which had a turn", name)
    for name in had.keys() & turns:
        by_sku[had[name].sku].append((turns[name], had[name].arrival, name))
    for sku, line in by_sku.items():
        for (_, arrival, name), (_, before, passed) in pairwise(sorted(line)):
            if before < arrival:
                report.fault(f"{sku}: {name} was admitted before {passed}, who stood before it", name, passed)
    return f"{len(turns):,} first moves follow them"


def _no_place_grows(case: Case, report: Report) -> int:
    """The place that a client works out from what one socket told it. After a lost one, another copy may know less.

    After a rebuild, those who come back to their places stand before who came later (D3, D4): ``older`` grows then.
    """
    sockets: dict[int, list[Frame]] = defaultdict(list)
    for frame in case.history.frames:
        sockets[id(frame.socket)].append(frame)
    return sum(_places_of(report, frames) for frames in sockets.values())


def _places_of(report: Report, frames: Iterable[Frame]) -> int:
    mine: TicketFrame | None = None
    last, older, told = inf, 0, 0
    for each in frames:
        frame = each.frame
        if isinstance(frame, TicketFrame):
            mine = frame
        if not isinstance(frame, ProgressFrame) or mine is None or mine.state != State.WAITING:
            continue
        place = frame.items.get(mine.sku)
        if place is None or frame.epoch != mine.epoch:
            continue
        stands = position(number=mine.number, served=place.served, older=place.older)
        told += 1
        if stands > last and (not frame.epoch or place.older <= older):
            report.fault(f"ticket {mine.ticket_id} went from place {last} to {stands}", mine.ticket_id)
        last, older = stands, place.older
    return told
