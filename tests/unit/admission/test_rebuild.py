"""D3: what a sale must be after Redis lost data, worked out from what is left and from what Postgres decided."""

from typing import Any

import msgspec
import pytest

from admission.rebuild import Found, Rebuilt, rebuild
from admission.records import Ended, Known, Order
from fairline.counts import MOST_REASONS
from fairline.events import ItemState, SaleChanged
from fairline.store.scripts import TicketRecord
from fairline.store.tickets import UNSEEN


def known(*, stock: int = 5, withdrawn: tuple[int, ...] = (), version: int = 4, **more: Any) -> Known:
    item = ItemState(sku="seat", name="Seat", stock=stock, high=stock + len(withdrawn), version=1, withdrawn=withdrawn)
    given: dict[str, Any] = {
        "epoch": 0,
        "action": "open",
        "reason": "",
        "state": "open",
        "name": "A sale",
        "per_buyer_limit": 2,
        "rate_per_s": 5,
        "message": "",
        "when_sold_out": "close_line",
        "validator": "{}",
        "items": (item,),
        "at_ms": 1,
    }
    return Known(epoch=3, version=version, sale=SaleChanged(sale_id="s", version=version, **(given | more)))


def record(state: str, arrival: int, **more: Any) -> TicketRecord:
    values: dict[str, Any] = {
        "state": state,
        "sku": "seat",
        "buyer": f"buyer-{arrival}",
        "quantity": 1,
        "arrival": arrival,
        "number": arrival,
        "lease": "a-lease" if state in {"ADMITTED", "RESERVED"} else "",
        "tries": 1,
        "back": 0,
        "units": (),
        "slots": (),
        "reason": "",
        "joined_ms": 1,
        "changed_ms": 1,
        "sends": 0,
    }
    return TicketRecord(**(values | more))


def reserved(arrival: int, *units: int, slots: tuple[int, ...] | None = None, **more: Any) -> TicketRecord:
    slots = slots or tuple(range(1, len(units) + 1))
    return record("RESERVED", arrival, units=units, slots=slots, quantity=len(units), sends=1, **more)


def ended(ticket_id: str, outcome: str, arrival: int, *units: int, **more: Any) -> Ended:
    order = None
    if outcome in {"CONFIRMED", "RELEASED"}:
        verdict = "confirmed" if outcome == "CONFIRMED" else "failed"
        slots = more.pop("slots", tuple(range(1, len(units) + 1)))
        order = Order(verdict=verdict, units=units, slots=slots, epoch=0, number=arrival)
    values: dict[str, Any] = {
        "ticket_id": ticket_id,
        "outcome": outcome,
        "sku": "seat",
        "buyer_id": f"buyer-{arrival}",
        "quantity": max(1, len(units)),
        "arrival": arrival,
        "reason": "" if outcome == "CONFIRMED" else "why",
        "at_ms": 9,
        "order": order,
    }
    return Ended(**(values | more))


def rebuilt(tickets: dict[str, TicketRecord], *facts: Ended, of: Known | None = None, **found: Any) -> Rebuilt:
    return rebuild(Found(tickets=tickets, **found), of or known(), facts, epoch=4)


def free(new: Rebuilt) -> set[int]:
    return set(new.returned["seat"]) | set(range(new.items["seat:next"], new.items["seat:high"] + 1))


@pytest.mark.parametrize("state", ["WAITING", "ADMITTED", "RESERVED", "DECLINED", "LEFT", "SOLD_OUT", "LAPSED"])
def test_d3_a_verdict_overrules_whatever_redis_says_of_a_ticket(state: str) -> None:
    there = reserved(1, 2) if state == "RESERVED" else record(state, 1)
    new = rebuilt({"a": there}, ended("a", "CONFIRMED", 1, 3))
    assert (new.tickets["a"].state, new.tickets["a"].units, new.tickets["a"].lease) == ("CONFIRMED", (3,), "")
    assert new.held == {"seat:buyer-1": [1]}
    assert free(new) == {1, 2, 4, 5}
    assert new.what == {"verdicts": 1, "overruled": 1}


def test_d3_a_failed_order_is_released_and_holds_nothing() -> None:
    new = rebuilt({"a": reserved(1, 2)}, ended("a", "RELEASED", 1, 2), ended("b", "RELEASED", 2, 1))
    for ticket_id in ("a", "b"):
        ticket = new.tickets[ticket_id]
        assert (ticket.state, ticket.units, ticket.slots, ticket.reason) == ("RELEASED", (), (), "why")
    assert (new.held, free(new), new.live) == ({}, {1, 2, 3, 4, 5}, {})


def test_d3_an_order_without_a_verdict_keeps_unit_slot_and_lease_and_is_due() -> None:
    there = reserved(1, 2)
    new = rebuilt({"a": there})
    assert new.tickets == {}
    assert (new.reserved, new.live, new.held) == (["a"], {"seat:buyer-1": "a"}, {"seat:buyer-1": [1]})
    assert free(new) == {1, 3, 4, 5}


@pytest.mark.parametrize("why", ["sold to another", "withdrawn", "beyond the last one"])
def test_d3_an_order_whose_unit_is_gone_stands_in_line_again(why: str) -> None:
    facts = [ended("b", "CONFIRMED", 2, 2)] if why == "sold to another" else []
    of = known(stock=5, withdrawn=(2,)) if why == "withdrawn" else known(stock=1) if why.startswith("beyond") else None
    new = rebuilt({"a": reserved(1, 2)}, *facts, of=of)
    ticket = new.tickets["a"]
    assert (ticket.state, ticket.lease, ticket.units, ticket.slots, ticket.back) == ("WAITING", UNSEEN, (), (), 1)
    assert new.waiting == [("seat", "a", 1)]
    assert new.items["seat:back"] == 1
    assert new.reserved == []


def test_d3_of_two_orders_for_one_unit_the_earlier_one_keeps_it() -> None:
    new = rebuilt({"b": reserved(2, 1), "a": reserved(1, 1)})
    assert (new.reserved, [ticket_id for _, ticket_id, _ in new.waiting]) == (["a"], ["b"])


def test_v2_an_order_whose_slot_another_one_has_takes_a_free_one_or_stands_in_line() -> None:
    bought = ended("x", "CONFIRMED", 1, 1, buyer_id="ada")
    new = rebuilt({"a": reserved(2, 2, buyer="ada")}, bought)
    assert new.tickets["a"].slots == (2,)
    assert new.held == {"seat:ada": [1, 2]}
    new = rebuilt({"a": reserved(2, 2, 3, buyer="ada")}, bought)
    assert (new.tickets["a"].state, new.held) == ("WAITING", {"seat:ada": [1]})


def test_d3_who_waited_or_was_admitted_waits_unseen_at_the_old_arrival() -> None:
    new = rebuilt({"a": record("WAITING", 1), "b": record("ADMITTED", 2, quantity=2)})
    assert new.waiting == [("seat", "a", 1), ("seat", "b", 2)]
    assert {ticket.lease for ticket in new.tickets.values()} == {UNSEEN}
    assert (new.tickets["a"].back, new.tickets["b"].back, new.items["seat:back"]) == (0, 1, 2)


@pytest.mark.parametrize("state", ["WAITING", "ADMITTED", None])
def test_d3_an_end_without_an_order_that_postgres_knows_is_restored(state: str | None) -> None:
    there = {"a": record(state, 1)} if state else {}
    new = rebuilt(there, ended("a", "DECLINED", 1))
    assert (new.tickets["a"].state, new.tickets["a"].reason) == ("DECLINED", "why")
    assert new.counts["seat:DECLINED:why"] == 1


def test_d3_terminal_records_and_an_order_under_way_outweigh_a_history_without_an_order() -> None:
    new = rebuilt({"a": record("LEFT", 1), "b": reserved(2, 1)}, ended("a", "DECLINED", 1), ended("b", "LAPSED", 2))
    assert new.tickets == {}
    assert new.reserved == ["b"]


def test_u1_free_units_are_all_without_those_sold_withdrawn_or_held() -> None:
    of = known(stock=8, withdrawn=(4, 9))
    new = rebuilt({"a": reserved(1, 6)}, ended("b", "CONFIRMED", 2, 2, 3), of=of)
    assert (new.returned["seat"], new.items["seat:next"], new.withdrawn) == ([1, 5, 7, 8], 10, {"seat": {4, 9}})
    assert free(new) == {1, 5, 7, 8, 10}
    assert (new.items["seat:stock"], new.items["seat:target"]) == (8, 10)


def test_8_the_counts_are_those_of_the_records() -> None:
    tickets = {"a": record("WAITING", 1), "b": record("SOLD_OUT", 2), "c": reserved(3, 1)}
    new = rebuilt(tickets, ended("d", "CONFIRMED", 4, 2))
    counted = {name.removeprefix("seat:"): number for name, number in new.counts.items() if number}
    assert counted == {"joined": 4, "WAITING": 1, "SOLD_OUT": 1, "RESERVED": 1, "CONFIRMED": 1}
    assert new.counts["seat:ADMITTED"] == 0, "what was counted before is overwritten"


def test_d4_the_counter_of_what_was_found_is_kept_and_numbers_begin_anew() -> None:
    meta = {"epoch": "2", "seq": "17", "version": "3"}
    new = rebuilt({}, meta=meta)
    assert (new.meta["seq:2"], new.meta["seq"], new.meta["epoch"]) == ("17", "0", "4")
    assert (new.items["seat:number"], new.items["seat:served"]) == (0, 0)
    assert not any(name.startswith("seq:") for name in rebuilt({}).meta)


def test_the_newer_of_both_definitions_counts_and_a_closed_sale_is_ended_until_it_is_closed_again() -> None:
    assert rebuilt({}, of=known(state="closed")).meta["state"] == "ended"
    # Redis stopped between Postgres's knowing that it is archived and its own: closed and archived again (C2).
    assert rebuilt({}, of=known(state="archived")).meta["state"] == "ended"
    meta = {
        "epoch": "3",
        "seq": "1",
        "version": "9",
        "state": "paused",
        "name": "Another name",
        "rate": "2.5",
        "capacity": "",
        "opens_at_ms": "",
        "ends_at_ms": "7",
        "message": "wait",
        "when_sold_out": "keep_line",
        "validator": "{}",
        "skus": msgspec.json.encode([("seat", "Seat")]).decode(),
    }
    items = {"seat:stock": 7, "seat:target": 7, "seat:version": 2}
    new = rebuilt({}, meta=meta, items=items)
    said = {name: new.meta[name] for name in ("state", "name", "rate", "ends_at_ms", "version", "acked")}
    assert said == {
        "state": "paused",
        "name": "Another name",
        "rate": "2.5",
        "ends_at_ms": "7",
        "version": "9",
        "acked": "4",
    }
    assert (new.items["seat:stock"], new.items["seat:high"], new.items["seat:target"]) == (7, 5, 7)
    assert new.items["seat:asked"] == 10
    for older in (
        rebuilt({}, meta=meta | {"version": "4"}, items=items),
        rebuilt({}, meta=meta, items=items, of=known(epoch=4)),
    ):
        assert (older.meta["name"], older.items["seat:stock"]) == ("A sale", 5)


def test_a_rebuild_that_is_done_again_from_its_own_result_changes_nothing_more() -> None:
    tickets = {"a": record("ADMITTED", 1), "b": reserved(2, 2), "c": reserved(3, 2), "d": record("WAITING", 4)}
    facts = [ended("e", "CONFIRMED", 5, 1), ended("d", "LAPSED", 4)]
    first = rebuilt(tickets, *facts)
    again = rebuilt(tickets | first.tickets, *facts)
    assert again.tickets == {}
    assert (again.items, again.counts, again.live, again.held) == (first.items, first.counts, first.live, first.held)
    assert sorted(again.waiting) == sorted(first.waiting)


def test_an_order_of_which_hardly_anything_could_be_read_makes_no_ticket() -> None:
    fact = ended("a", "RELEASED", 1)
    fact.arrival = None
    new = rebuilt({}, fact)
    assert new.tickets == {}


def test_what_is_of_a_sku_that_the_sale_has_not_holds_up_no_rebuild() -> None:
    fact = ended("a", "RELEASED", 1)
    fact.sku = "chair"
    again = msgspec.structs.replace(fact, ticket_id="old", readmitted_as="new")
    assert rebuilt({}, fact, again) == rebuilt({})


def readmitted(**more: Any) -> Ended:
    return msgspec.structs.replace(ended("old", "RELEASED", 3, 2), readmitted_as="new", **more)


def test_s2_a_readmission_that_was_lost_waits_at_the_old_arrival_again_until_its_buyer_comes() -> None:
    new = rebuilt({"behind": record("WAITING", 5)}, readmitted(order=Order("failed", (2,), (1,), 0, 7)))
    assert new.tickets["old"].state == "RELEASED"
    back = new.tickets["new"]
    assert (back.state, back.lease, back.arrival, back.number, back.quantity) == ("WAITING", UNSEEN, 3, 7, 1)
    assert (back.buyer, back.units, back.slots, back.reason) == ("buyer-3", (), (), "")
    assert ("seat", "new", 3) in new.waiting
    assert new.live["seat:buyer-3"] == "new"
    assert (back.back, new.items["seat:back"]) == (1, 1), "it has a claim on the next free unit"
    assert (new.counts["seat:WAITING"], new.counts["seat:joined"]) == (2, 3)
    assert (new.what["restored"], new.what["in_line"]) == (2, 2)
    assert rebuilt(new.tickets | {"behind": record("WAITING", 5, lease=UNSEEN)}, readmitted()).tickets == {}


@pytest.mark.parametrize("state", ["WAITING", "RESERVED", "LEFT"])
def test_s2_a_readmission_that_is_there_stays_what_it_became(state: str) -> None:
    there = reserved(3, 4, back=1) if state == "RESERVED" else record(state, 3, back=1)
    new = rebuilt({"new": there}, readmitted())
    assert new.tickets.get("new", there).state == state
    assert new.what["restored"] == 1, "the old one"


def test_s2_a_readmission_that_bought_is_confirmed_and_not_given_again() -> None:
    new = rebuilt({}, readmitted(), ended("new", "CONFIRMED", 3, 1))
    assert (new.tickets["new"].state, new.waiting) == ("CONFIRMED", [])


@pytest.mark.parametrize(
    ("tickets", "more"),
    [
        ({"other": record("WAITING", 9, buyer="buyer-3")}, {}),
        ({"a": record("CONFIRMED", 9, buyer="buyer-3", units=(1, 3), slots=(1, 2))}, {}),
        ({}, {"buyer_id": "", "arrival": 0}),
        ({}, {"arrival": None}),
    ],
    ids=["joined again", "bought meanwhile", "nothing could be read", "no place"],
)
def test_s2_no_readmission_is_made_up_or_gives_a_buyer_too_much(tickets: dict[str, TicketRecord], more: Any) -> None:
    assert "new" not in rebuilt(tickets, readmitted(**more)).tickets


def test_reasons_of_a_shop_are_counted_up_to_a_number_of_them() -> None:
    often = {f"a{at}": record("DECLINED", at, reason="often") for at in range(2)}
    seldom = {f"b{at}": record("DECLINED", 9 + at, reason=f"no_{at}") for at in range(MOST_REASONS + 5)}
    counts = rebuilt({**seldom, **often}).counts
    told = {name: number for name, number in counts.items() if name.startswith("seat:DECLINED:")}
    assert len(told) == MOST_REASONS + 1
    assert (told["seat:DECLINED:often"], told["seat:DECLINED:other"]) == (2, 6)
    assert sum(told.values()) == counts["seat:DECLINED"] == MOST_REASONS + 7


def test_of_a_sale_that_was_made_anew_nothing_counts_however_new_it_is() -> None:
    anew = {"epoch": "3", "seq": "0", "version": "9", "state": "draft", "created_ms": "2000"}
    new = rebuilt({}, of=known(created_at_ms=1_000), meta=anew)
    assert {name: new.meta[name] for name in ("state", "version", "created_ms")} == {
        "state": "open",
        "version": "4",
        "created_ms": "1000",
    }
    assert "seq:3" not in new.meta, "every place of the lost one is still to come back (D4)"


@pytest.mark.parametrize(("in_redis", "in_postgres"), [("1000", 1_000), ("", 1_000), ("1000", None)])
def test_a_sale_of_which_one_side_does_not_know_when_it_was_created_is_the_same(
    in_redis: str, in_postgres: int | None
) -> None:
    there = {"epoch": "3", "seq": "17", "version": "4", "created_ms": in_redis}
    assert rebuilt({}, of=known(created_at_ms=in_postgres), meta=there).meta["seq:3"] == "17"
