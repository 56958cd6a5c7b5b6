"""Invariants 1 and 2: a unit is sold at most once, and not kept back while somebody wants it."""

from collections import defaultdict
from collections.abc import Iterable
from math import inf

from fairline.events import OrderConfirmed
from fairline.states import State
from loadtest.case import Case, most_at
from loadtest.report import Report

OLD_NEWS_S = 1.0  # a gateway refuses from a look at the sale that is a little old
HOLDS = (State.RESERVED, State.CONFIRMED)


def never_oversold(case: Case, report: Report) -> str:
    """1: confirmed orders never exceed the stock at any instant, and no unit is ever in two hands."""
    for sku in case.redis.items:
        _rows_within_stock(case, report, sku)
        _told_within_stock(case, report, sku)
        for unit, hands in _hands(case, sku).items():
            if len(hands) > 1:
                report.fault(f"{sku}: unit {unit} is in several hands in Redis: {' and '.join(hands)}", *_ids(hands))
    confirmed: dict[tuple[str, int], set[str]] = defaultdict(set)
    for result in case.kafka.results:
        if isinstance(result, OrderConfirmed):
            for unit in result.units:
                confirmed[result.sku, unit].add(result.ticket_id)
    for (sku, unit), tickets in confirmed.items():
        if len(tickets) > 1:
            report.fault(f"{sku}: unit {unit} was confirmed on Kafka for {_and(tickets)}", *tickets)
    seen = _samples_within_stock(case, report)
    return f"{len(case.postgres.units):,} rows for {sum(case.postgres.stock.values()):,} units, each at most once{seen}"


def _rows_within_stock(case: Case, report: Report, sku: str) -> None:
    stock, high = case.postgres.stock.get(sku, 0), case.postgres.high.get(sku, 0)
    rows = [row for row in case.postgres.units if row.sku == sku]
    asked = case.stock_steps(sku)[-1].most
    if len(rows) > min(stock, asked):
        report.fault(f"{sku}: {len(rows)} rows for {min(stock, asked):.0f} units", *(row.ticket_id for row in rows))
    if stock > asked:
        report.fault(f"{sku}: Postgres has a stock of {stock}, operators asked for {asked:.0f} at the most")
    free = case.redis.items[sku].free()
    owners: dict[int, list[str]] = defaultdict(list)
    for row in rows:
        owners[row.unit].append(row.ticket_id)
        if not 1 <= row.unit <= high:
            report.fault(
                f"{sku}: unit {row.unit} of {row.ticket_id} does not exist, {high} is the highest", row.ticket_id
            )
        if row.unit in free:
            report.fault(f"{sku}: unit {row.unit} is sold to {row.ticket_id} and free in Redis", row.ticket_id)
    for unit, tickets in owners.items():
        if len(tickets) > 1:
            report.fault(f"{sku}: unit {unit} is sold to {_and(tickets)}", *tickets)


def _told_within_stock(case: Case, report: Report, sku: str) -> None:
    """What buyers were told, in the order of time: never more units than there may have been by then."""
    steps = case.stock_steps(sku)
    told = sorted(
        (min(end.at_s for end in life.ends), unit, life.ticket_id)
        for life in case.lives.values()
        if life.sku == sku
        for unit in case.units_told(life)
    )
    owner: dict[int, str] = {}
    for count, (at_s, unit, ticket_id) in enumerate(told, 1):
        if owner.setdefault(unit, ticket_id) != ticket_id:
            report.fault(f"{sku}: unit {unit} was told to {_and((owner[unit], ticket_id))}", owner[unit], ticket_id)
        most = most_at(steps, 0.0, at_s)
        if count > most:
            report.fault(f"{sku}: {ticket_id} was told CONFIRMED as number {count} of {most:.0f} units", ticket_id)
            break


def _samples_within_stock(case: Case, report: Report) -> str:
    steps = {sku: case.stock_steps(sku) for sku in case.redis.items}
    for sample in case.history.samples:
        for sku, counts in sample.counts.items():
            taken = sum(counts.get(state, 0) for state in HOLDS)
            taken += (
                counts.get(State.ADMITTED, 0) if case.first_epoch else 0
            )  # a rebuilt sale may have to overrule them
            most = most_at(steps[sku], 0.0, sample.at_s)
            if taken > most:
                report.fault(f"{sku}: {taken} tickets had or claimed one of {most:.0f} units at {sample.at_s:.3f}")
                return ""
    return f", also in {len(case.history.samples)} samples" if case.history.samples else ""


def never_undersold(case: Case, report: Report) -> str:
    """2: nobody goes away empty while a unit may be had, and no unit is neither sold nor free."""
    if case.redis.halted:
        report.stuck("the sale is halted and sells nothing", rested=case.rested)
    for sku, item in case.redis.items.items():
        missing = set(range(1, item.high + 1)) - set(_hands(case, sku))
        if missing:
            report.fault(f"{sku}: {_some(missing)} neither sold nor free")
        if item.target > item.high:
            report.stuck(f"{sku}: {item.target - item.high} units asked for are not on sale", rested=case.rested)
        _nobody_waits_for_free_units(case, report, sku)
        if case.lossless:
            _sold_out_was_true(case, report, sku)
    free = sum(len(item.free()) for item in case.redis.items.values())
    empty = sum(call.answer is not None and call.answer.code == "sold_out" for call in case.history.calls)
    empty += sum(ticket.state == State.SOLD_OUT for ticket in case.redis.tickets.values())
    if not case.known:
        report.doubt("without a history nobody knows whom the gateway refused, and whether they came too early")
    return f"{len(case.postgres.units):,} units sold, {free:,} free, no other; {empty:,} were told that all are gone"


def _nobody_waits_for_free_units(case: Case, report: Report, sku: str) -> None:
    of = [(name, each) for name, each in case.redis.tickets.items() if each.sku == sku]
    claimed = sum(each.quantity for _, each in of if each.state == State.ADMITTED)
    left = len(case.redis.items[sku].free()) - claimed
    # D3: in a rebuilt sale nobody is admitted who has not shown up since
    here = [(each.arrival, name, each.quantity) for name, each in of if each.state == State.WAITING and not each.unseen]
    if case.redis.state != "open" or not here or left <= 0:
        return
    _, name, wants = min(here)
    if wants > left and claimed:
        return  # Q1: it waits in its place for what may come back
    report.stuck(f"{sku}: {left} units are free and {name} waits for {wants}", name, rested=case.rested)


def _sold_out_was_true(case: Case, report: Report, sku: str) -> None:
    """E2: who is told that all are gone is not followed by somebody who gets one, unless more came on sale."""
    told = [
        (call.sent.at_s, call.answer.at_s, call.sent.buyer_id, "")
        for call in case.history.calls
        if call.sent.sku == sku and call.answer is not None and call.answer.code == "sold_out"
    ]
    for life in case.lives.values():
        told += [
            (end.after_s, end.at_s, life.buyer_id, life.ticket_id)
            for end in life.ends[:1]
            if life.sku == sku and end.state == State.SOLD_OUT
        ]
    got = [
        (max(life.asked_s, life.waiting_s), life.ticket_id)
        for life in case.lives.values()
        if life.sku == sku and any(end.state == State.CONFIRMED for end in life.ends)
    ]
    last_s, last = max(got, default=(-inf, ""))
    free = len(case.redis.items[sku].free())
    for after_s, at_s, buyer_id, ticket_id in told:
        if case.raised_after(sku, after_s - OLD_NEWS_S):
            continue
        who = ticket_id or buyer_id
        if case.first_epoch and last_s > at_s:
            report.fault(f"{sku}: {who} was told sold out, {last} was without a unit after that and got one", last)
            break
        if free:
            report.fault(f"{sku}: {who} was told sold out, and {free} units are free", *filter(None, [ticket_id]))
            break
    if not case.first_epoch:
        return  # who was before whom, a rebuild has changed
    swept = [each for each in case.redis.tickets.items() if each[1].sku == sku and each[1].state == State.SOLD_OUT]
    winners = [each for each in case.redis.tickets.items() if each[1].sku == sku and each[1].state == State.CONFIRMED]
    for name, loser in swept:
        for other, winner in winners:
            if winner.arrival > loser.arrival and winner.joined_ms < loser.changed_ms < winner.changed_ms:
                report.fault(f"{sku}: {name} is SOLD_OUT, {other} stood behind it then and got a unit", name, other)
                return


def _hands(case: Case, sku: str) -> dict[int, list[str]]:
    """Serial -> who has it in Redis."""
    item = case.redis.items[sku]
    hands: dict[int, list[str]] = defaultdict(list)
    for name, ticket in case.redis.tickets.items():
        if ticket.sku == sku and ticket.state in HOLDS:
            for unit in ticket.units:
                hands[unit].append(f"{ticket.state} {name}")
    fresh = range(item.first_fresh, item.high + 1)
    for hand, serials in (("free", item.returned), ("off sale", item.withdrawn), ("never sold", fresh)):
        for serial in serials:
            hands[serial].append(hand)
    return hands


def _ids(hands: list[str]) -> list[str]:
    return [hand.partition(" ")[2] for hand in hands if hand.startswith(HOLDS)]


def _and(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))


def _some(units: set[int]) -> str:
    first = ", ".join(str(unit) for unit in sorted(units)[:3])
    return (
        f"unit {first} is"
        if len(units) == 1
        else f"{len(units)} units ({first}{', ...' if len(units) > 3 else ''}) are"
    )
