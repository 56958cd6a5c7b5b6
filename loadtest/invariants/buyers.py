"""Invariant 7: not too many units to one buyer, and one live ticket for each sku."""

from collections import Counter, defaultdict
from itertools import combinations, pairwise
from math import inf

from fairline.states import LIVE, State
from loadtest.case import Case
from loadtest.report import Report

_Counted = dict[tuple[str, str], list[str]]


def one_per_buyer(case: Case, report: Report) -> str:
    """7: no buyer holds more units of a sku than the limit: in Postgres, in Redis, or by what was told."""
    limit = min(case.redis.per_buyer_limit, case.created.get("per_buyer_limit") or 1)
    rows: _Counted = defaultdict(list)
    for row in case.postgres.units:
        rows[row.buyer_id, row.sku].append(row.ticket_id)
    told: _Counted = defaultdict(list)
    for life in case.lives.values():
        told[life.buyer_id, life.sku] += [life.ticket_id for _ in case.units_told(life)]
    for where, counted in (("has", rows), ("was told", told)):
        for (buyer, sku), tickets in counted.items():
            if buyer and len(tickets) > limit:
                report.fault(f"{buyer} {where} {len(tickets)} units of {sku}, {limit} are allowed", *tickets)
    for (sku, buyer, slot), times in Counter((row.sku, row.buyer_id, row.slot) for row in case.postgres.units).items():
        if times > 1 or not 1 <= slot <= limit:
            report.fault(f"{buyer} has slot {slot} of {sku} {times} times in Postgres, {limit} are allowed")
    _slots_in_redis(case, report, limit)
    _live_in_redis(case, report)
    if case.lossless:
        _one_live_ticket(case, report)
        _one_live_record(case, report)
    most = max((len(tickets) for tickets in rows.values()), default=0)
    return f"at most {most} of {limit} units a buyer and sku, and one live ticket"


def _slots_in_redis(case: Case, report: Report, limit: int) -> None:
    by_records: dict[str, list[int]] = defaultdict(list)
    for ticket in case.redis.tickets.values():
        if ticket.state in {State.RESERVED, State.CONFIRMED}:
            by_records[f"{ticket.sku}:{ticket.buyer_id}"].extend(ticket.slots)
    for who in sorted({*case.redis.held, *by_records}):
        slots, held = sorted(by_records[who]), sorted(case.redis.held.get(who, ()))
        if len(slots) > limit or len(set(slots)) < len(slots):
            report.fault(f"{who} has tickets with the slots {slots} in Redis, {limit} are allowed")
        elif slots != held:
            report.fault(f"{who} has tickets with the slots {slots}, and Redis counts {held}")


def _live_in_redis(case: Case, report: Report) -> None:
    live: _Counted = defaultdict(list)
    for name, ticket in case.redis.tickets.items():
        if ticket.state in LIVE:
            live[ticket.buyer_id, ticket.sku].append(name)
    for (buyer, sku), tickets in live.items():
        if len(tickets) > 1:
            report.fault(f"{buyer} has {len(tickets)} live tickets for {sku}: {', '.join(sorted(tickets))}", *tickets)


def _one_live_ticket(case: Case, report: Report) -> None:
    """R2: a ticket that is live after another was made was live then, and the other should not have been made."""
    of: _Counted = defaultdict(list)
    for life in sorted(case.lives.values(), key=lambda life: life.asked_s):
        if life.buyer_id and life.asked_s and life.existed_s < inf:
            of[life.buyer_id, life.sku].append(life.ticket_id)
    for (buyer, sku), tickets in of.items():
        for first, second in combinations((case.lives[name] for name in tickets), 2):
            lived_on = any(not told.final and told.after_s > second.existed_s for told in first.told)
            if first.existed_s < second.asked_s and lived_on:
                report.fault(
                    f"{buyer} got {second.ticket_id} for {sku} while {first.ticket_id} was live",
                    *(first.ticket_id, second.ticket_id),
                )


def _one_live_record(case: Case, report: Report) -> None:
    """R2 by Redis's own clock: a ticket was live from when it was made to when it ended."""
    of: _Counted = defaultdict(list)
    for name, ticket in sorted(case.redis.tickets.items(), key=lambda each: each[1].joined_ms):
        of[ticket.buyer_id, ticket.sku].append(name)
    for (buyer, sku), names in of.items():
        for first, second in pairwise(names):
            ended, made = case.redis.tickets[first], case.redis.tickets[second]
            if ended.state not in LIVE and made.joined_ms < ended.changed_ms:
                report.fault(f"{buyer} got {second} for {sku} before {first} had ended", first, second)
