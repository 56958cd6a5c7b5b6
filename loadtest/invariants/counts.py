"""Invariant 8: nothing in secret. All states add up to all who joined, and nobody is in the books who never came."""

from collections import Counter

from fairline.states import State
from loadtest.case import REFUSED, Case
from loadtest.report import Report


def nothing_in_secret(case: Case, report: Report) -> str:
    """8: joined = the sum of the states = the records, at every sample and in the end; each record's owner is known."""
    _at_every_instant(case, report)
    for sku, item in case.redis.items.items():
        records = {name: each for name, each in case.redis.tickets.items() if each.sku == sku}
        found = Counter(each.state for each in records.values())
        counted = {state: item.counts.get(state, 0) for state in State}
        if item.counts.get("joined", 0) != sum(counted.values()):
            report.fault(f"{sku}: {item.counts.get('joined', 0)} joined, the states add up to {sum(counted.values())}")
        for state, number in counted.items():
            if number != found[state]:
                report.fault(f"{sku}: {number} counted as {state}, {found[state]} found")
        waiting = {name for name, each in records.items() if each.state == State.WAITING}
        _same(report, f"{sku}: the line", set(item.line), waiting)
    for what, members, state in (
        ("the leases", case.redis.leases, State.ADMITTED),
        ("the reserved", case.redis.reserved, State.RESERVED),
    ):
        _same(report, what, set(members), {name for name, each in case.redis.tickets.items() if each.state == state})
    if case.known:
        _owners(case, report)
    seen = f", also in {len(case.history.samples)} samples" if case.history.samples else ""
    return f"{len(case.redis.tickets):,} joined = the sum of all states = the records found{seen}"


def _at_every_instant(case: Case, report: Report) -> None:
    for sample in case.history.samples:
        if case.losses and sample.at_s > min(case.losses):
            break  # D5: until it is rebuilt
        for sku, counts in sample.counts.items():
            total = sum(counts.get(state, 0) for state in State)
            if counts.get("joined", 0) != total:
                report.fault(f"{sku}: {counts.get('joined', 0)} joined, {total} counted at {sample.at_s:.3f}")


def _same(report: Report, what: str, members: set[str], records: set[str]) -> None:
    for name in sorted(members ^ records):
        which = "has it, its record says otherwise" if name in members else "lacks it"
        report.fault(f"ticket {name}: {what} {which}", name)


def _owners(case: Case, report: Report) -> None:
    """Every ticket told of is there, and its request's; every ticket there was asked for, and not surely refused."""
    last_loss = max(case.losses, default=-1.0)
    for life in case.lives.values():
        known_after = any(told.after_s > last_loss for told in life.told)
        if life.ticket_id not in case.redis.tickets and known_after:
            report.fault(f"ticket {life.ticket_id} was told {life.told[-1]}, Redis has no such ticket", life.ticket_id)
    asked = set()
    for name, joins in case.joins.items():
        if any(call.answer is None or call.answer.status not in REFUSED for call in joins):
            asked.add(name)
        for call in joins:
            if call.answer is not None and call.answer.token and call.answer.ticket_id != name:
                given = call.answer.ticket_id
                report.fault(f"ticket {given} was given to {call.sent.buyer_id}, whose request made {name}", given)
    nameless = Counter(
        (call.sent.buyer_id, call.sent.sku)
        for call in case.history.calls
        if call.sent.what == "join" and not call.sent.key and (call.answer is None or call.answer.status >= 500)
    )
    released = {
        (each.buyer_id, each.sku, each.arrival) for each in case.redis.tickets.values() if each.state == State.RELEASED
    }
    for name, ticket in case.redis.tickets.items():
        who = ticket.buyer_id, ticket.sku
        told = name in case.lives and case.lives[name].told
        if told or name in asked or (*who, ticket.arrival) in released:  # S2: readmitted by an operator
            continue
        nameless[who] -= 1
        if nameless[who] < 0:
            report.fault(f"ticket {name} of {ticket.buyer_id} is in Redis, and nobody asked for it", name)
