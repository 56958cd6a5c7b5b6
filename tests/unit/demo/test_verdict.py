"""A verdict that cannot say no is worth nothing: every invariant is broken here, one lie at a time."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fairline.demo.log import Call, Told
from fairline.demo.verdict import CHECKS, Evidence, Finding, judge
from fairline.demo.watch import Counts, RedisView, Row, Sample
from fairline.ids import ticket_id_for
from fairline.states import State
from tests.support.evidence import SKU, flawless, record

NAMES = [
    "never oversold",
    "never undersold",
    "one outcome",
    "no lost order",
    "in order",
    "never faster than told",
    "one per buyer",
    "nothing in secret",
]


def broken(evidence: Evidence) -> set[str]:
    return {finding.name for finding in judge(evidence) if not finding.ok}


def finding(evidence: Evidence, name: str) -> Finding:
    return judge(evidence)[NAMES.index(name)]


def test_a_flawless_sale_passes_all_eight_in_the_order_of_the_design() -> None:
    found = judge(flawless())
    assert [each.name for each in found] == NAMES
    assert broken(flawless()) == set()
    assert all(each.evidence for each in found)
    assert len(CHECKS) == 8


def test_a_sale_with_units_left_over_passes_too() -> None:
    assert broken(flawless(stock=9, ends="CDC")) == set()


def with_rows(e: Evidence, *more: Row) -> Evidence:
    return replace(e, rows=[*e.rows, *more])


def in_redis(e: Evidence, **changes: object) -> Evidence:
    redis: RedisView = replace(e.redis, **changes)  # type: ignore[arg-type]
    return replace(e, redis=redis)


def last_told(e: Evidence, ticket: str, told: Told) -> Evidence:
    e.log.tickets[ticket].told.append(told)
    return e


def sampled(e: Evidence, **states: int) -> Evidence:
    counts = dict.fromkeys(State, 0) | {State[name]: number for name, number in states.items()}
    sample = Sample(100.5, 0, {SKU: Counts(joined=sum(counts.values()), states={str(k): v for k, v in counts.items()})})
    e.seen.samples.append(sample)
    return e


def without_row(e: Evidence) -> Evidence:
    return replace(e, rows=e.rows[1:])


def resold(e: Evidence) -> Evidence:
    """Ticket 4 is told the unit of ticket 1, in Redis and Postgres too."""
    e.log.tickets["ticket-4"].told = [Told(101.0, "socket", State.CONFIRMED, None, (1,))]
    return replace(e, rows=[*e.rows[:2], Row(SKU, 1, "buyer-4", "ticket-4")])


def unit_beyond(e: Evidence) -> Evidence:
    e.log.tickets["ticket-4"].told = [Told(101.0, "socket", State.CONFIRMED, None, (4,))]
    return replace(e, rows=[*e.rows[:2], Row(SKU, 4, "buyer-4", "ticket-4")])


LIES: list[tuple[str, str, Callable[[Evidence], Evidence | None], str]] = [
    ("never oversold", "more rows than units", lambda e: with_rows(e, Row(SKU, 2, "x", "y")), "4 rows for 3 units"),
    ("never oversold", "a unit sold twice", resold, "unit 1 has 2 rows"),
    ("never oversold", "a unit that does not exist", unit_beyond, "unit 4 does not exist"),
    (
        "never oversold",
        "too many claims at one moment",
        lambda e: sampled(e, ADMITTED=1, RESERVED=1, CONFIRMED=2),
        "4 tickets held or claimed one of 3",
    ),
    ("never undersold", "somebody sent home with a unit left", without_row, "1 units unsold"),
    ("never undersold", "a leaked unit", lambda e: in_redis(e, left={SKU: 1}), "but 1 free in Redis"),
    (
        "one outcome",
        "two ends",
        lambda e: last_told(e, "ticket-5", Told(106.0, "socket", State.CONFIRMED, None, (3,))),
        "was told CONFIRMED and SOLD_OUT",
    ),
    (
        "one outcome",
        "two reasons",
        lambda e: last_told(e, "ticket-3", Told(106.0, "status", State.DECLINED, "already_bought", ())),
        "DECLINED (already_bought) and DECLINED (payment_declined)",
    ),
    (
        "one outcome",
        "different units",
        lambda e: last_told(e, "ticket-1", Told(106.0, "status", State.CONFIRMED, None, (2,))),
        "different units",
    ),
    (
        "one outcome",
        "an end that ended",
        lambda e: last_told(e, "ticket-5", Told(106.0, "status", State.WAITING)),
        "told SOLD_OUT and later WAITING",
    ),
    (
        "one outcome",
        "no end",
        lambda e: e.log.tickets["ticket-5"].told.__delitem__(slice(1, None)),
        "was told no outcome",
    ),
    (
        "one outcome",
        "Redis knows better",
        lambda e: in_redis(e, tickets={**e.redis.tickets, "ticket-5": record(State.WAITING)}),
        "told SOLD_OUT, Redis has WAITING",
    ),
    (
        "one outcome",
        "Redis does not know",
        lambda e: in_redis(e, tickets={k: v for k, v in e.redis.tickets.items() if k != "ticket-5"}),
        "Redis has None",
    ),
    (
        "one outcome",
        "a request without an answer",
        lambda e: e.log.calls.append(Call("x", SKU, "9", 1.0)),
        "no_answer",
    ),
    (
        "one outcome",
        "a request that ended with a fault",
        lambda e: setattr(e.log.calls[0], "word", "internal"),
        "1 requests ended with internal",
    ),
    (
        "one outcome",
        "a client's trouble",
        lambda e: e.log.tickets["ticket-1"].trouble.append("was shut out"),
        "shut out",
    ),
    ("no lost order", "told but not written", without_row, "is not in Postgres"),
    ("no lost order", "written but not told", lambda e: with_rows(e, Row(SKU, 3, "x", "y")), "x was not told"),
    (
        "no lost order",
        "an order half done",
        lambda e: in_redis(e, tickets={**e.redis.tickets, "other": record(State.RESERVED)}),
        "1 orders are neither confirmed nor released",
    ),
    ("no lost order", "a fact that stays behind", lambda e: in_redis(e, outbox=2), "2 facts have not left"),
    (
        "one per buyer",
        "two rows of one buyer",
        lambda e: replace(e, rows=[*e.rows[:2], Row(SKU, 3, "buyer-1", "ticket-4")]),
        "buyer-1 has 2 units",
    ),
    (
        "one per buyer",
        "two told",
        lambda e: setattr(e.log.tickets["ticket-4"], "buyer_id", "buyer-1"),
        "buyer-1 was told 2 units",
    ),
    ("one per buyer", "two held in Redis", lambda e: in_redis(e, most_slots=2), "holds 2 units"),
    (
        "nothing in secret",
        "counts that do not add up",
        lambda e: in_redis(e, counts={SKU: replace(e.redis.counts[SKU], joined=7)}),
        "7 joined",
    ),
    (
        "nothing in secret",
        "counts that did not add up at one moment",
        lambda e: e.seen.samples.append(Sample(1.0, 0, {SKU: replace(e.redis.counts[SKU], joined=5)})),
        "5 joined, 6 counted at one moment",
    ),
    (
        "nothing in secret",
        "counts that a scan does not find",
        lambda e: in_redis(e, tickets={**e.redis.tickets, "ticket-5": record(State.LEFT)}),
        "2 counted as SOLD_OUT, 1 found",
    ),
    (
        "nothing in secret",
        "a ticket nobody asked for",
        lambda e: in_redis(e, tickets={**e.redis.tickets, "other": record(State.LEFT)}),
        "other that nobody asked for",
    ),
    (
        "nothing in secret",
        "a ticket that is gone",
        lambda e: in_redis(e, tickets={k: v for k, v in e.redis.tickets.items() if k != "ticket-5"}),
        "ticket-5 is not in Redis",
    ),
]


@pytest.mark.parametrize(("name", "lie", "doctor", "says"), LIES, ids=[f"{name}: {lie}" for name, lie, _, _ in LIES])
def test_a_lie_breaks_its_invariant_and_the_evidence_says_how(
    name: str, lie: str, doctor: Callable[[Evidence], Evidence | None], says: str
) -> None:
    e = flawless()
    found = finding(doctor(e) or e, name)
    assert not found.ok, lie
    assert says in found.evidence


@pytest.mark.parametrize("name", sorted({name for name, *_ in LIES} | {"in order", "never faster than told"}))
def test_every_invariant_has_a_lie_that_breaks_it(name: str) -> None:
    assert name in NAMES


def test_many_faults_are_told_by_a_few_and_a_number() -> None:
    e = flawless()
    found = finding(replace(e, rows=[*e.rows, *(Row(SKU, 50 + n, "x", str(n)) for n in range(9))]), "never oversold")
    assert found.evidence.count(";") == 3
    assert "more" in found.evidence


def test_a_ticket_of_a_request_whose_answer_was_lost_is_no_secret() -> None:
    e = flawless()
    e.log.calls.append(Call("buyer-9", SKU, "9", 101.0))
    lost = ticket_id_for("sale", SKU, "buyer-9", "9")
    tickets = {**e.redis.tickets, lost: record(State.SOLD_OUT)}
    found = finding(in_redis(e, tickets=tickets), "nothing in secret")
    assert "nobody asked" not in found.evidence


def test_without_a_limit_the_pace_is_not_judged_and_says_so() -> None:
    assert finding(flawless(), "never faster than told").evidence == "no limit was set"
