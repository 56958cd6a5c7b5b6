"""admission.reconcile.differences: two accounts of one sale, compared by identities."""

from typing import Any

import pytest

from admission.reconcile.differences import (
    KINDS,
    Account,
    Difference,
    Ledger,
    differences,
    refuted,
    unbalanced,
    without_verdict,
)
from admission.records import Ended, Order
from fairline.store.scripts import TicketRecord


def record(state: str, *, units: tuple[int, ...] = (), slots: tuple[int, ...] = (), buyer: str = "ada") -> TicketRecord:
    return TicketRecord(
        state=state,
        sku="seat",
        buyer=buyer,
        quantity=max(1, len(units)),
        arrival=1,
        number=1,
        lease="",
        tries=0,
        back=0,
        units=units,
        slots=slots,
        reason="",
        joined_ms=0,
        changed_ms=0,
        sends=0,
    )


def row(ticket_id: str, outcome: str, *, units: tuple[int, ...] = (), buyer: str = "ada", order: bool = True) -> Ended:
    verdict = Order("confirmed" if outcome == "CONFIRMED" else "failed", units, (1,) if units else (), 0, 1)
    return Ended(ticket_id, outcome, "seat", buyer, 1, 1, "", 5, verdict if order else None)


def lawful() -> tuple[Account, Ledger]:
    """Serials 1 to 5 were given out: 1 is sold, 2 in an order, 3 came back, 4 is off sale, 5 is sold to bob."""
    account = Account(
        next_serial={"seat": 6},
        high={"seat": 9},
        returned={"seat": {3}},
        withdrawn={"seat": {4}},
        held={("seat", "ada"): [1], ("seat", "bob"): [1], ("seat", "cy"): [1]},
        to_send_again={"t2"},
        settled=True,
    )
    account.take("t1", record("CONFIRMED", units=(1,), slots=(1,)))
    account.take("t2", record("RESERVED", units=(2,), slots=(1,), buyer="cy"))
    account.take("t5", record("CONFIRMED", units=(5,), slots=(1,), buyer="bob"))
    account.take("t6", record("RELEASED", buyer="dee"))
    account.take("t7", record("DECLINED", buyer="eve"))
    account.take("t8", record("WAITING", buyer="fay"))
    rows = [
        row("t1", "CONFIRMED", units=(1,)),
        row("t5", "CONFIRMED", units=(5,), buyer="bob"),
        row("t6", "RELEASED", buyer="dee"),
        row("t7", "DECLINED", buyer="eve", order=False),
    ]
    return account, Ledger({each.ticket_id: each for each in rows}, {"seat": 9})


def found(account: Account, ledger: Ledger) -> list[tuple[str, str, int]]:
    return sorted((each.kind, each.subject, each.number) for each in differences(account, ledger))


def test_accounts_that_agree_have_no_difference() -> None:
    assert found(*lawful()) == []


def test_c2_who_left_or_found_all_sold_and_was_kept_when_the_sale_was_archived_is_none() -> None:
    account, ledger = lawful()
    for ticket_id, outcome in (("t9", "LEFT"), ("t10", "SOLD_OUT")):
        ledger.rows[ticket_id] = row(ticket_id, outcome, order=False)
        account.others[ticket_id] = outcome  # in Redis again, or still: it was rebuilt in the middle
    assert found(account, ledger) == []


def test_what_is_under_way_is_none() -> None:
    account, ledger = lawful()
    assert "t8" not in account.tickets, "nothing can be compared of who waits"
    account.settled = False
    account.high["seat"] = 12
    assert found(account, ledger) == [], "more stock was asked for, and Postgres has not said so"


CHANGES: dict[str, tuple[Any, list[tuple[str, str, int]]]] = {
    "a result that was lost": (
        lambda a, b: b.rows.update(t2=row("t2", "CONFIRMED", units=(2,), buyer="cy")),
        [("verdict_unsettled", "t2", 0)],
    ),
    "a refusal that was lost": (
        lambda a, b: b.rows.update(t2=row("t2", "RELEASED", buyer="cy")),
        [("verdict_unsettled", "t2", 0)],
    ),
    "a verdict on a ticket that waits again": (
        lambda a, b: (b.rows.update(t9=row("t9", "RELEASED", buyer="gil")), a.others.update(t9="WAITING")),
        [("verdict_unsettled", "t9", 0)],
    ),
    "an order that nobody would send again": (
        lambda a, b: a.to_send_again.clear(),
        [("order_unsent", "t2", 0)],
    ),
    "a unit in no hand": (lambda a, b: a.returned["seat"].clear(), [("unit_lost", "3", 0)]),
    "a sold unit in stock": (lambda a, b: a.returned["seat"].add(5), [("unit_free", "5", 0)]),
    "one unit in two tickets": (
        lambda a, b: a.take("t2", record("RESERVED", units=(1,), slots=(1,), buyer="cy")),
        [("unit_lost", "2", 0), ("unit_twice", "1", 0)],
    ),
    "a slot of nobody": (lambda a, b: a.held["seat", "ada"].append(2), [("slot_lost", "ada", 2)]),
    "a sold slot that counts as free": (lambda a, b: a.held.pop(("seat", "bob")), [("slot_free", "bob", 1)]),
    "a ticket that Redis never heard of": (
        lambda a, b: (
            b.rows.update(t9=row("t9", "CONFIRMED", units=(6,), buyer="gil")),
            a.others.update(t9=None),
        ),
        [("slot_free", "gil", 1), ("ticket_unknown", "t9", 0)],
    ),
    "told one thing and written another": (
        lambda a, b: a.take("t6", record("DECLINED", buyer="dee")),
        [("outcome_differs", "t6", 0)],
    ),
    "told sold out and written confirmed": (
        lambda a, b: (b.rows.update(t9=row("t9", "RELEASED")), a.others.update(t9="SOLD_OUT")),
        [("outcome_differs", "t9", 0)],
    ),
    "confirmed for another unit": (
        lambda a, b: b.rows.update(t1=row("t1", "CONFIRMED", units=(3,))),
        [("outcome_differs", "t1", 0), ("unit_free", "3", 0)],
    ),
    "a confirmed ticket without a row": (
        lambda a, b: b.rows.pop("t1"),
        [("row_missing", "t1", 0)],
    ),
    "a released ticket without a row": (lambda a, b: b.rows.pop("t6"), [("row_missing", "t6", 0)]),
    "a declined ticket without a history": (lambda a, b: b.rows.pop("t7"), [("history_missing", "t7", 0)]),
    "a stock that one side alone knows": (lambda a, b: a.high.update(seat=12), [("stock_differs", "high", 0)]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_difference_is_found_and_nothing_beside_it(name: str) -> None:
    edit, expected = CHANGES[name]
    account, ledger = lawful()
    edit(account, ledger)
    assert found(account, ledger) == expected


def test_every_kind_of_difference_is_found_by_a_test() -> None:
    kinds = {kind for _, expected in CHANGES.values() for kind, _, _ in expected}
    assert kinds | {"count_differs", "order_lost"} == set(KINDS)


def test_an_order_is_lost_when_it_is_neither_in_the_outbox_nor_on_kafka_nor_in_postgres() -> None:
    account, ledger = lawful()
    assert [each.subject for each in without_verdict(account, ledger, set())] == ["t2"]
    assert list(without_verdict(account, ledger, {"t2"})) == []
    ledger.rows["t2"] = row("t2", "CONFIRMED", units=(2,), buyer="cy")
    assert list(without_verdict(account, ledger, set())) == []


def test_what_was_sold_meanwhile_is_not_mended() -> None:
    _, ledger = lawful()
    lost = [Difference(kind="unit_lost", sku="seat", subject=unit, redis="", postgres="") for unit in ("1", "3")]
    slots = [
        Difference(kind="slot_lost", sku="seat", subject="bob", number=slot, redis="", postgres="") for slot in (1, 2)
    ]
    assert refuted([*lost, *slots], ledger) == {lost[0], slots[0]}


COUNTS = {
    "seat:WAITING": 2,
    "seat:ADMITTED": 1,
    "seat:RESERVED": 1,
    "seat:CONFIRMED": 3,
    "seat:joined": 7,
    "seat:asked": 9,
}


def test_counts_that_add_up_are_no_difference() -> None:
    sizes: dict[str, Any] = {"tickets": 7, "live": 4, "leases": 1, "reserved": 1, "waiting": {"seat": 2}}
    assert list(unbalanced(COUNTS, **sizes)) == []
    for name, subject in (("tickets", "tickets"), ("live", "live"), ("leases", "leases"), ("reserved", "reserved")):
        [wrong] = unbalanced(COUNTS, **sizes | {name: 5})
        assert (wrong.kind, wrong.subject) == ("count_differs", subject)
    [wrong] = unbalanced(COUNTS, **sizes | {"waiting": {"seat": 3}})
    assert (wrong.kind, wrong.sku, wrong.subject) == ("count_differs", "seat", "line")
