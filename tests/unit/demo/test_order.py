from dataclasses import replace

from fairline.demo.log import Place, Told
from fairline.demo.order import faults_of_order, faults_of_pace
from fairline.demo.verdict import Evidence, in_order, never_faster
from fairline.demo.watch import Sample
from fairline.states import State
from tests.support.evidence import flawless


def order(e: Evidence) -> list[str]:
    return faults_of_order(e.log, e.seen)


def test_arrivals_in_the_order_of_answers_are_no_fault() -> None:
    assert order(flawless()) == []
    assert in_order(flawless()).ok


def test_a_later_request_with_an_earlier_arrival_is_a_fault() -> None:
    e = flawless(ends="SSSS", stock=0)
    e.log.tickets["ticket-2"].arrival, e.log.tickets["ticket-4"].arrival = 4, 2
    assert any("arrival 2 was sent after arrival 4 had been answered" in fault for fault in order(e))
    assert not in_order(e).ok


def test_requests_under_way_together_may_arrive_in_any_order() -> None:
    e = flawless(ends="SSSS", stock=0)
    first, second = e.log.tickets["ticket-1"], e.log.tickets["ticket-2"]
    first.answered_s = second.sent_s + 0.001
    first.arrival, second.arrival = 2, 1
    assert order(e) == []


def test_one_arrival_for_two_tickets_is_a_fault() -> None:
    e = flawless()
    e.log.tickets["ticket-2"].arrival = 1
    assert "an arrival was given twice" in order(e)


def test_who_is_sent_home_while_a_later_one_had_a_turn_was_passed_over() -> None:
    assert any(
        "arrival 2 ended SOLD_OUT without a turn, arrival 3 had one" in fault for fault in order(flawless(ends="CSC"))
    )


def test_who_left_the_line_was_not_passed_over() -> None:
    e = flawless(ends="CSC")
    e.log.tickets["ticket-2"].told[1:] = [Told(101.0, "socket", State.LEFT)]
    assert order(e) == []


def test_an_admission_before_an_earlier_arrival_is_a_fault() -> None:
    e = flawless()
    e.seen.moved["ticket-1"], e.seen.moved["ticket-2"] = 1, 0
    assert any("arrival 2 was admitted before arrival 1" in fault for fault in order(e))


def test_an_admission_that_was_not_seen_is_a_fault_only_while_the_channel_was_heard() -> None:
    e = flawless()
    del e.seen.moved["ticket-1"]
    assert any("the move of arrival 1 was not seen" in fault for fault in order(e))
    e.seen.listened = False
    assert order(e) == []
    assert "outcomes only" in in_order(e).evidence


def test_a_place_that_grows_is_a_fault_but_not_across_connections() -> None:
    e = flawless()
    e.log.tickets["ticket-5"].places = [Place(1.0, 1, 9), Place(2.0, 1, 8), Place(3.0, 2, 9)]
    assert order(e) == []
    e.log.tickets["ticket-5"].places.append(Place(4.0, 2, 10))
    assert any("from place 9 to 10" in fault for fault in order(e))
    e.log.tickets["ticket-5"].arrival = 2**40 + 5
    assert not any("from place" in fault for fault in order(e)), "in a sale that was rebuilt"


def test_admissions_within_the_pace_are_no_fault() -> None:
    # Ten a second, ten were asked for a second and admitted after 20 ms.
    faults, words = faults_of_pace(flawless(ends="C" * 20, stock=20).log, rate=10.0, opened_s=100.0)
    assert faults == []
    assert "admitted within" in words


def test_more_admissions_than_the_bucket_gives_are_a_fault() -> None:
    e = flawless(ends="C" * 20, stock=20, rate_per_s=5.0)
    assert not never_faster(e).ok
    assert "5/s: fullest stretch" in never_faster(e).evidence


def test_a_burst_after_a_quiet_time_is_a_fault_too() -> None:
    e = flawless(ends="C" * 20, stock=20)
    for held in e.log.tickets.values():
        held.sent_s = 1000.0
        held.told = [Told(1000.5, "socket", State.ADMITTED)]
    # 900 s at 10 a second would give 9,000 in all, but never 20 within half a second.
    faults, _ = faults_of_pace(e.log, rate=10.0, opened_s=100.0)
    assert any("20 admitted within 0.50 s" in fault for fault in faults)


def test_more_leases_than_the_capacity_at_one_moment_are_a_fault() -> None:
    e = flawless(capacity=5)
    assert never_faster(e).ok
    e.seen.samples.append(Sample(101.0, 6, e.redis.counts))
    assert "6 were admitted at one moment, capacity is 5" in never_faster(e).evidence


def test_a_slow_sale_says_how_full_its_fullest_stretch_was() -> None:
    e = flawless(rate_per_s=50.0)
    assert never_faster(e).ok
    assert never_faster(replace(e)).evidence.startswith("50/s: fullest stretch")


def test_where_nobody_was_admitted_no_stretch_is_full() -> None:
    assert "nobody was admitted" in never_faster(flawless(ends="SS", stock=0, rate_per_s=1.0)).evidence
