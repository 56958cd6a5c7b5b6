"""Invariants 3 and 4: one end for each ticket, the same wherever one looks, and no order lost on the way to it."""

from collections import defaultdict
from math import inf

from fairline.events import ORDERS, OrderConfirmed
from fairline.frames import CloseCode, TicketFrame
from fairline.states import State
from loadtest.case import (
    COME_BACK,
    FORGETTABLE,
    LIVE_STATES,
    REACHABLE,
    REACHABLE_RECOVERED,
    REFUSED,
    Case,
    Life,
    Told,
)
from loadtest.report import Report

VERDICTS = {"confirmed": State.CONFIRMED, "failed": State.RELEASED}
SILENT_S = 2.0  # a socket that tells of the line, and for so long nothing of an outcome, has lost it


def one_outcome(case: Case, report: Report) -> str:
    """3: each ticket reaches one end, for good: by WebSocket, status, Redis, Kafka and Postgres."""
    for life in case.lives.values():
        _told_one_story(case, report, life)
        _told_what_is_so(case, report, life)
        _status_at_rest(case, report, life)
    _every_request_answered(case, report)
    _every_socket_its_own(case, report)
    for name, ticket in case.redis.tickets.items():
        row, end = case.postgres.orders.get(name), case.postgres.history.get(name)
        if row is not None and ticket.state != VERDICTS[row.verdict]:
            said = f"ticket {name} is {ticket.state} in Redis, Postgres has {row.verdict}"
            if ticket.state in LIVE_STATES:
                report.stuck(said, name, rested=case.rested)
            else:
                report.fault(said, name)
        if end is not None and ticket.state not in LIVE_STATES and ticket.state != end and not _forgiven(case, end):
            report.fault(f"ticket {name} is {ticket.state} in Redis, {end} in Postgres's history", name)
        if ticket.state == State.ADMITTED:
            report.stuck(f"ticket {name} is ADMITTED", name, rested=case.rested)
        if ticket.state == State.WAITING and not _may_wait(case, ticket.sku):
            report.stuck(f"ticket {name} still waits in a sale that is over for it", name, rested=case.rested)
    _one_verdict_on_kafka(case, report)
    if not case.known:
        report.doubt("without a history nobody knows what buyers were told")
    ended = sum(ticket.state not in LIVE_STATES for ticket in case.redis.tickets.values())
    heard = f"what {len(case.lives):,} tickets and {len(case.joins):,} requests were told"
    return f"{ended:,} tickets ended, each once and the same by all who say so; {heard}"


def _told_one_story(case: Case, report: Report, life: Life) -> None:
    """Each thing told can follow from what was told before it, and all the ends are one."""
    reachable = REACHABLE if case.first_epoch else REACHABLE_RECOVERED
    for at, before in enumerate(life.told):
        for after in life.told[at + 1 :]:
            contradicts = after.state not in reachable[before.state] and before.surely_before(after)
            two_ends = before.final and after.final and before.state != after.state
            if (contradicts or two_ends) and not _excused(case, before, after):
                report.fault(f"ticket {life.ticket_id} was told {before}, then {after}", life.ticket_id)
                return
            if before.final and after.state == before.state and _differ(case, before, after):
                report.fault(
                    f"ticket {life.ticket_id} was told of two different ends, both {after.state}", life.ticket_id
                )
                return


def _differ(case: Case, one: Told, other: Told) -> bool:
    if one.units is not None and other.units is not None and one.units != other.units:
        return True
    if "leave" in {one.via, other.via}:  # who leaves too late is told the state alone
        return False
    reasons = {one.reason or "", other.reason or ""}
    return len(reasons) > 1 and (case.first_epoch or "" not in reasons)  # a rebuild may have lost it


def _told_what_is_so(case: Case, report: Report, life: Life) -> None:
    name, record = life.ticket_id, case.redis.tickets.get(life.ticket_id)
    row, end = case.postgres.orders.get(name), life.ends[-1] if life.ends else None
    if end is None:
        if record is not None and record.state not in LIVE_STATES:
            _not_told(case, report, life, record.state)
        elif record is None and row is not None and case.lossless:
            report.fault(f"ticket {name} has a {row.verdict} order and its buyer was not told", name)
        return
    # D5: a forgotten end may become another, but none that costs money unless its buyer comes back for it
    forgiven = _forgiven(case, end.state)
    if record is not None and record.state != end.state:
        settled = record.state in VERDICTS.values()
        if not forgiven or (settled and not case.came_back(life)):
            report.fault(f"ticket {name} was told {end}, Redis has {record.state}", name)
    if row is not None and end.state != VERDICTS[row.verdict] and not (forgiven and case.came_back(life)):
        report.fault(f"ticket {name} was told {end}, Postgres has {row.verdict}", name)
    if end.state == State.CONFIRMED and record is not None and end.units and record.units != end.units:
        report.fault(f"ticket {name} was told units {end.units}, Redis has {record.units}", name)


def _not_told(case: Case, report: Report, life: Life, state: str) -> None:
    """The last step of a ticket's life is the message on the buyer's screen."""
    record = case.redis.tickets[life.ticket_id]
    spans = (began.at_s + (record.changed_ms - began.wall_ms) / 1000 for began in case.history.began)
    if case.rested and life.heard_last_s > min(spans, default=inf) + SILENT_S:
        report.fault(f"ticket {life.ticket_id} is {state}, its socket went on and never said so", life.ticket_id)
    elif life.told:
        report.doubt(
            f"ticket {life.ticket_id} is {state}, and its client had gone before it could be told", life.ticket_id
        )


def _status_at_rest(case: Case, report: Report, life: Life) -> None:
    """Whoever has a ticket can ask for it, also long after."""
    asked = case.last_status(life)
    if asked is None or (asked.answer is not None and asked.answer.state):
        return
    status, code = (asked.answer.status, asked.answer.code) if asked.answer is not None else (0, "no answer")
    said = f"the status of ticket {life.ticket_id} could not be had at rest: {code or status}"
    if status in REFUSED and status not in COME_BACK and life.ticket_id in case.redis.tickets:
        report.fault(said, life.ticket_id)
    else:
        report.doubt(said, life.ticket_id)


def _every_request_answered(case: Case, report: Report) -> None:
    """By a ticket or by a refusal, if not at once then when it was sent again with its key."""
    for name, joins in case.joins.items():
        answer = joins[-1].answer
        if answer is None or (not answer.state and (answer.status not in REFUSED or answer.status in COME_BACK)):
            sent, said = joins[-1].sent, answer and (answer.code or answer.status)
            report.doubt(f"{sent.buyer_id} asked for {sent.sku} and was told {said or 'nothing'} in the end", name)


def _every_socket_its_own(case: Case, report: Report) -> None:
    """A token opens the socket of its ticket, which tells of no other."""
    for socket in case.history.sockets:
        if socket.code in {CloseCode.BAD_TOKEN, CloseCode.GARBAGE}:
            report.doubt(f"ticket {socket.ticket_id}: its socket was closed with {socket.code}", socket.ticket_id)
    for each in case.history.frames:
        mine = each.socket.ticket_id
        if isinstance(each.frame, TicketFrame) and each.frame.ticket_id not in {mine, case.redis.aliases.get(mine)}:
            report.fault(f"ticket {mine}: its socket told of {each.frame.ticket_id}", mine, each.frame.ticket_id)


def _excused(case: Case, before: Told, after: Told) -> bool:
    """D5: a Redis that lost writes may forget four of the ends; who comes back may get another."""
    forgot = any(loss == inf or before.after_s <= loss <= after.at_s for loss in case.losses)
    return forgot and (before.state in FORGETTABLE or not before.final)


def _forgiven(case: Case, state: str) -> bool:
    return not case.lossless and state in FORGETTABLE


def _may_wait(case: Case, sku: str) -> bool:
    if case.redis.state == "open":
        of = [ticket.state for ticket in case.redis.tickets.values() if ticket.sku == sku]
        gone = not case.redis.items[sku].free() and not {State.ADMITTED, State.RESERVED} & set(of)
        return not gone or case.redis.when_sold_out == "keep_line"
    return case.redis.state in {"paused", "draft"}


def _one_verdict_on_kafka(case: Case, report: Report) -> None:
    said: dict[str, set[str]] = defaultdict(set)
    for result in case.kafka.results:
        said[result.ticket_id].add("confirmed" if isinstance(result, OrderConfirmed) else "failed")
    for name, verdicts in said.items():
        row = case.postgres.orders.get(name)
        if len(verdicts) > 1:
            report.fault(f"ticket {name} was both confirmed and failed on Kafka", name)
        elif row is not None and row.verdict not in verdicts:
            report.fault(f"ticket {name} is {row.verdict} in Postgres, {verdicts.pop()} on Kafka", name)
    for fact in case.kafka.ended:
        row = case.postgres.orders.get(fact.ticket_id)
        if row is not None and case.lossless:
            report.fault(f"ticket {fact.ticket_id} ended as {type(fact).__name__}, and has an order", fact.ticket_id)


def no_lost_order(case: Case, report: Report) -> str:
    """4: what was reserved is a row or was released and told; what was told CONFIRMED is a row, and the other way."""
    if case.redis.halted:
        report.stuck("the sale is halted, its orders stand still", rested=case.rested)
    if case.redis.outbox:
        report.stuck(f"{case.redis.outbox} facts have not left for Kafka", rested=case.rested)
    for life in case.lives.values():
        _told_means_row(case, report, life)
    _records_have_rows(case, report)
    _rows_have_tickets(case, report)
    for name, why in _must_have_a_verdict(case).items():
        if name not in case.postgres.orders:
            report.stuck(f"order {name} has no verdict ({why})", name, rested=case.rested)
    for result in case.kafka.results:
        if result.ticket_id not in case.postgres.orders:
            report.fault(f"a verdict on {result.ticket_id} is on Kafka and not in Postgres", result.ticket_id)
    confirmed = sum(row.verdict == "confirmed" for row in case.postgres.orders.values())
    released = len(case.postgres.orders) - confirmed
    return f"{confirmed:,} orders are rows, {released:,} were released, none is half done"


def _told_means_row(case: Case, report: Report, life: Life) -> None:
    name, row = life.ticket_id, case.postgres.orders.get(life.ticket_id)
    for end in life.ends:
        wanted = {State.CONFIRMED: "confirmed", State.RELEASED: "failed"}.get(State(end.state))
        if wanted is None:
            continue
        if row is None or row.verdict != wanted:
            report.fault(f"ticket {name} was told {end}, Postgres has {row and row.verdict}", name)
        elif (row.sku, row.buyer_id) != (life.sku or row.sku, life.buyer_id or row.buyer_id):
            report.fault(f"the order of ticket {name} is of {row.buyer_id} for {row.sku}", name)
        elif end.units and wanted == "confirmed" and end.units != row.units:
            report.fault(f"ticket {name} was told units {end.units}, Postgres has {row.units}", name)


def _records_have_rows(case: Case, report: Report) -> None:
    for name, ticket in case.redis.tickets.items():
        row = case.postgres.orders.get(name)
        if ticket.state in VERDICTS.values() and (row is None or VERDICTS[row.verdict] != ticket.state):
            report.fault(f"ticket {name} is {ticket.state} in Redis, Postgres has {row and row.verdict}", name)
        elif ticket.state == State.CONFIRMED and row is not None and row.units != ticket.units:
            report.fault(f"ticket {name} has units {ticket.units} in Redis, {row.units} in Postgres", name)


def _rows_have_tickets(case: Case, report: Report) -> None:
    units: dict[str, set[int]] = defaultdict(set)
    for unit in case.postgres.units:
        units[unit.ticket_id].add(unit.unit)
    for name, row in case.postgres.orders.items():
        wanted = set(row.units) if row.verdict == "confirmed" else set()
        if units.pop(name, set()) != wanted:
            report.fault(f"the {row.verdict} order {name} does not have the units that are sold to it", name)
        record, life = case.redis.tickets.get(name), case.lives.get(name)
        if (
            record is not None
            and (record.sku, record.buyer_id) != (row.sku, row.buyer_id)
            and row.verdict == "confirmed"
        ):
            report.fault(f"order {name} is of {row.buyer_id} for {row.sku}, its ticket is not", name)
        if record is None and (life is None or not life.asked_s) and case.known:
            report.fault(f"order {name} is of a ticket that nobody asked for", name)
    for name in units:
        report.fault(f"units are sold to {name}, which has no order", name)


def _must_have_a_verdict(case: Case) -> dict[str, str]:
    """Orders that may not go without one; those of an older epoch are void, and sent again if they still count (V7)."""
    wanted = {
        fact.ticket_id: "on Kafka"
        for fact in case.kafka.orders
        if case.lossless or fact.epoch == max(case.redis.epoch, case.postgres.epoch)
    }
    last_loss = max(case.losses, default=-1.0)
    for life in case.lives.values():
        if any(told.state == State.RESERVED and told.after_s > last_loss for told in life.told):
            wanted[life.ticket_id] = "told RESERVED"
    wanted |= {name: "RESERVED" for name, each in case.redis.tickets.items() if each.state == State.RESERVED}
    if case.lossless:
        letters = (letter for letter in case.kafka.dead if letter.topic == ORDERS)
        wanted |= {letter.ticket_id: "a dead letter" for letter in letters if letter.ticket_id}
    return wanted
