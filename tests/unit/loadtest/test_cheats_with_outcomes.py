"""Doctored sales that the checker must catch, and odd ones that it must not: invariants 3, 4 and 8, and rule D5."""

from collections import Counter

import msgspec
import pytest

from fairline.states import State
from loadtest.finals import Letter
from loadtest.history import Answered, Closed, Heard, Opening, Sent
from tests.support.paper_sale import PaperSale, caught, lawful


@pytest.fixture
def sale() -> PaperSale:
    return PaperSale(stock=2)


# 3: one outcome


def test_3_two_ends_were_told(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.buy(anna)
    sale.tell(anna, state=State.DECLINED, reason="payment_declined", units=())
    assert "CONFIRMED" in caught(sale, 3, anna)


def test_3_a_status_that_goes_back_behind_what_was_told(sale: PaperSale) -> None:
    """Subtle: only an answer that was asked for after the frame says something older."""
    anna = sale.join("anna")
    sale.buy(anna)
    sale.step()
    now = sale.tickets[anna]
    sale.edit(anna, state=State.RESERVED)
    sale.status(anna)
    sale.tickets[anna] = now
    sale.rest()
    assert "RESERVED by status" in caught(sale, 3, anna)


def test_3_an_outcome_that_never_came_to_the_buyer_s_screen(sale: PaperSale) -> None:
    """Subtle: every record agrees, and the socket was open all the time."""
    anna = sale.join("anna")
    sale.buy(anna)
    sale.records = [
        each for each in sale.records if not (isinstance(each, Heard) and b"CONFIRMED" in bytes(each.frame))
    ]
    sale.rest()
    sale.records = [each for each in sale.records if not (isinstance(each, Answered) and each.state == "CONFIRMED")]
    assert sale.verdicts()[3] == "cannot tell"
    sale.step(by_s=3.0)
    sale.progress(anna, served=1)
    assert "never said so" in caught(sale, 3, anna)


def test_3_other_units_at_the_second_telling(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.buy(anna)
    sale.tell(anna, units=(2,))
    caught(sale, 3, anna)


def test_3_a_reason_that_only_one_telling_has(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.admit(anna)
    sale.end(anna, State.DECLINED, "payment_declined")
    sale.tell(anna, reason=None)
    assert "two different ends" in caught(sale, 3, anna)


def test_3_a_socket_that_tells_of_another_s_ticket(sale: PaperSale) -> None:
    anna, bert = sale.join("anna"), sale.join("bert")
    sale._sockets[anna] = sale._sockets[bert]
    sale.tell(anna)
    assert f"its socket told of {anna}" in caught(sale, 3, bert)


def test_3_a_status_that_is_refused_in_the_end(sale: PaperSale) -> None:
    """Subtle: the frames have told everything, and a bookmark of the page shows nothing."""
    anna = sale.join("anna")
    sale.buy(anna)
    sale.rest()
    call = sale.records[-2]
    assert isinstance(call, Sent)
    sale.records[-1] = Answered(at_s=sale.now, call=call.call, status=404, code="unknown_ticket")
    assert "unknown_ticket" in caught(sale, 3, anna)
    sale.records[-1] = Answered(at_s=sale.now, call=call.call, status=503, code="unavailable")
    assert sale.verdicts()[3] == "cannot tell"


@pytest.mark.parametrize("status", [0, 429, 500])
def test_3_a_request_that_nobody_ever_answered_cannot_be_told(sale: PaperSale, status: int) -> None:
    sale.buy(sale.join("anna"))
    sale.join("bert", lost=True, listen=False)
    sale.records.pop()
    sale.tickets.popitem()
    if status:
        sale.refused("bert", "not_now")
        sale.records[-1] = msgspec.structs.replace(sale.records[-1], status=status)
    sale.rest()
    found = sale.findings()[2]
    assert found.verdict == "cannot tell"
    assert f"bert asked for seat and was told {'not_now' if status else 'nothing'}" in found.evidence


def test_3_a_token_that_was_not_taken_cannot_be_told(sale: PaperSale) -> None:
    anna = sale.join("anna")
    socket = next(each.socket for each in sale.records if isinstance(each, Opening))
    sale.buy(anna)
    sale.records.append(Closed(at_s=sale.now, socket=socket, code=4401))
    sale.rest()
    assert "closed with 4401" in sale.findings()[2].evidence
    assert sale.verdicts()[3] == "cannot tell"


def test_3_redis_and_postgres_disagree_about_an_end(sale: PaperSale) -> None:
    anna = sale.join("anna", listen=False)
    sale.admit(anna)
    sale.reserve(anna)
    sale.write(anna, "confirmed")
    sale.end(anna, State.DECLINED, "payment_declined")
    assert "Postgres has confirmed" in caught(sale, 3, anna)


def test_3_a_ticket_that_is_admitted_for_ever(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.admit(anna)
    sale.rest()
    assert "ADMITTED, at rest" in caught(sale, 3, anna)


def test_3_both_verdicts_on_kafka(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.buy(anna)
    confirmed = sale.rows[anna]
    sale.rows[anna] = msgspec.structs.replace(confirmed, verdict="failed")
    sale.publish(anna)
    sale.rows[anna] = confirmed
    assert "both confirmed and failed" in caught(sale, 3, anna)


def test_3_an_older_answer_comes_late_and_lost_requests_are_made_again(sale: PaperSale) -> None:
    anna = sale.join("anna", lost=True)
    assert sale.join("anna") == anna
    sale.admit(anna)
    sale.reserve(anna)
    sale.status(anna, took_s=1.0)  # it says RESERVED when the frame has long said CONFIRMED
    sale.confirm(anna)
    sale.listen(anna)  # connected anew: the end is told again
    bert = sale.join("bert")
    sale.admit(bert)
    sale.requeue(bert)
    sale.buy(bert)
    sale.rest()
    lawful(sale)


def test_3_who_leaves_too_late_is_told_the_end_without_its_reason(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.admit(anna)
    sale.end(anna, State.DECLINED, "payment_declined")
    sale.leave_too_late(anna)
    sale.rest()
    lawful(sale)


# 4: no lost order


def test_4_a_buyer_was_told_confirmed_and_there_is_no_row(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.buy(anna)
    del sale.rows[anna], sale.units[:]
    assert "Postgres has None" in caught(sale, 4, anna)


def test_4_an_order_that_kafka_has_and_nobody_decided(sale: PaperSale) -> None:
    """Subtle, H6: its buyer was never told of it, and Redis knows nothing of it any more."""
    anna = sale.join("anna", listen=False)
    sale.admit(anna)
    sale.reserve(anna)
    sale.edit(anna, state=State.LEFT, units=(), slots=())
    sale.free = [1, 2]
    assert sale.verdicts()[4] == "cannot tell"
    sale.rest()
    assert "has no verdict (on Kafka)" in caught(sale, 4, anna)


def test_4_a_verdict_that_was_published_before_it_was_committed(sale: PaperSale) -> None:
    """Subtle, V4: the buyer heard nothing yet."""
    anna = sale.join("anna", listen=False)
    sale.admit(anna)
    sale.reserve(anna)
    sale.write(anna, "failed", reason="not_writable")
    sale.rows.clear()
    sale.outcomes.clear()
    assert "is on Kafka and not in Postgres" in caught(sale, 4, anna)


def test_4_a_dead_letter_without_a_verdict(sale: PaperSale) -> None:
    anna = sale.join("anna", listen=False)
    sale.admit(anna)
    sale.reserve(anna)
    sale.orders.clear()
    sale.edit(anna, state=State.LEFT, units=(), slots=())
    sale.free = [1, 2]
    sale.dead.append(Letter(topic="fairline.orders", ticket_id=anna))
    sale.rest()
    assert "a dead letter" in caught(sale, 4, anna)


def test_4_the_row_is_of_another_unit_than_was_told(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.buy(anna)
    sale.rows[anna] = msgspec.structs.replace(sale.rows[anna], units=(2,))
    sale.units[0] = msgspec.structs.replace(sale.units[0], unit=2)
    caught(sale, 4, anna)


def test_4_told_released_and_written_all_the_same(sale: PaperSale) -> None:
    """H1, H7."""
    anna = sale.join("anna")
    sale.admit(anna)
    sale.reserve(anna)
    sale.release(anna)
    sale.rows[anna] = msgspec.structs.replace(sale.rows[anna], verdict="confirmed", reason=None)
    caught(sale, 4, anna)


def test_4_facts_that_never_left_and_orders_that_stand_still(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.admit(anna)
    sale.reserve(anna)
    sale.outbox = 1
    assert sale.verdicts()[4] == "cannot tell"
    sale.rest()
    assert "1 facts have not left" in caught(sale, 4, anna)


def test_4_a_poisoned_order_is_a_dead_letter_and_its_unit_goes_to_the_next(sale: PaperSale) -> None:
    anna, bert = sale.join("anna"), sale.join("bert")
    for ticket in (anna, bert):
        sale.admit(ticket)
        sale.reserve(ticket)
        sale.send(ticket)
    sale.dead += [Letter(topic="fairline.orders", ticket_id=anna)] * 2
    sale.release(anna)
    sale.confirm(bert)
    sale.publish(bert)
    sale.rest()
    lawful(sale)


# 8: nothing in secret


def test_8_a_count_that_is_one_off(sale: PaperSale) -> None:
    sale.buy(sale.join("anna"))
    sale.counted = Counter({"joined": 2, "CONFIRMED": 1})
    assert "2 joined, the states add up to 1" in caught(sale, 8)


def test_8_two_counts_that_are_wrong_and_add_up(sale: PaperSale) -> None:
    """Subtle: the sum is right."""
    sale.buy(sale.join("anna"))
    sale.end(sale.join("bert"), State.LEFT)
    sale.counted = Counter({"joined": 2, "CONFIRMED": 2})
    assert "2 counted as CONFIRMED, 1 found" in caught(sale, 8)


def test_8_a_ticket_that_nobody_asked_for(sale: PaperSale) -> None:
    """Subtle: it is in every count, and bought a unit."""
    anna = sale.join("anna", listen=False)
    sale.records = sale.records[:5]
    sale.buy(anna)
    assert "nobody asked for it" in caught(sale, 8, anna)


def test_8_a_ticket_that_was_told_of_and_is_gone(sale: PaperSale) -> None:
    anna = sale.join("anna")
    del sale.tickets[anna]
    assert "Redis has no such ticket" in caught(sale, 8, anna)


def test_8_a_ticket_that_waits_and_is_in_no_line(sale: PaperSale) -> None:
    """Subtle: the counts are right, but it will never be its turn."""
    anna = sale.join("anna")
    sale.line = []
    assert "lacks it" in caught(sale, 8, anna)


def test_8_a_moment_at_which_somebody_was_missing(sale: PaperSale) -> None:
    """Subtle: later all is well again."""
    anna, kept = sale.join("anna"), PaperSale._counts
    sale._counts = lambda: Counter({"joined": 1})  # type: ignore[method-assign]
    sale.sample()
    sale._counts = lambda: kept(sale)  # type: ignore[method-assign]
    sale.buy(anna)
    sale.rest()
    assert "1 joined, 0 counted" in caught(sale, 8)


def test_8_a_ticket_of_a_request_whose_every_answer_was_lost(sale: PaperSale) -> None:
    anna = sale.join("anna", lost=True, listen=False)
    sale.buy(anna)
    sale.rest()
    assert sale.verdicts().pop(8) == "ok"


def test_8_a_ticket_that_a_refused_request_has_made(sale: PaperSale) -> None:
    """Subtle: nobody was told of it, and its buyer did ask."""
    anna = sale.join("anna", lost=True, listen=False)
    sale.records = [each for each in sale.records if not isinstance(each, Sent) or each.what != "join"]
    sale.refused("anna", "sold_out")
    sale.end(anna, State.LEFT)
    assert "nobody asked for it" in caught(sale, 8, anna)


def test_8_a_ticket_that_was_given_to_another_s_request(sale: PaperSale) -> None:
    anna, bert = sale.join("anna"), sale.join("bert")
    sale.records = [
        msgspec.structs.replace(each, ticket_id=anna) if isinstance(each, Answered) and each.ticket_id == bert else each
        for each in sale.records
    ]
    assert f"was given to bert, whose request made {bert}" in caught(sale, 8, anna)


# D5: what a loss of Redis's data excuses, and what it does not


def forgotten(sale: PaperSale, *, told: State) -> str:
    """Anna was told an end; Redis forgets it, is rebuilt, and she, who comes back, gets another."""
    anna = sale.join("anna")
    sale.end(anna, told)
    sale.step()
    if sale.epoch:
        sale.fault(lost="some")
    sale.edit(anna, state=State.WAITING)
    sale.status(anna)
    sale.buy(anna)
    sale.rest()
    return anna


def test_d5_whoever_left_a_line_that_was_lost_may_come_back_to_it(sale: PaperSale) -> None:
    sale.epoch = 1
    forgotten(sale, told=State.LEFT)
    lawful(sale)


def test_d5_without_a_loss_nobody_comes_back(sale: PaperSale) -> None:
    caught(sale, 3, forgotten(sale, told=State.LEFT))


def test_d5_a_loss_does_not_excuse_a_confirmed_that_becomes_another(sale: PaperSale) -> None:
    sale.epoch = 1
    anna = sale.join("anna")
    sale.buy(anna)
    sale.fault(lost="all")
    sale.edit(anna, state=State.WAITING, units=(), slots=())
    sale.free.append(1)
    sale.end(anna, State.SOLD_OUT)
    caught(sale, 3, anna)


def test_d5_a_loss_does_not_excuse_to_sell_to_somebody_who_left_and_never_came_back(sale: PaperSale) -> None:
    """H12: told LEFT, then written all the same."""
    sale.epoch = 1
    anna = sale.join("anna", listen=False)
    sale.end(anna, State.LEFT)
    sale.status(anna)
    sale.fault(lost="some")
    sale.edit(anna, state=State.WAITING)
    sale.buy(anna)
    caught(sale, 3, anna)


def test_d5_a_reservation_without_a_row_may_go_back_to_the_line_and_its_old_order_is_void(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.admit(anna)
    sale.reserve(anna)
    sale.fault(lost="some")
    sale.epoch = 1
    sale.edit(anna, units=(), slots=())
    sale.free = [1, 2]
    sale.requeue(anna)
    sale.status(anna)
    sale.end(anna, State.LEFT)
    sale.rest()
    lawful(sale)


def test_d5b_a_restart_that_lost_nothing_excuses_nothing(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.admit(anna)
    sale.reserve(anna)
    sale.fault(lost="none")
    sale.epoch = 1
    sale.edit(anna, units=(), slots=())
    sale.free = [1, 2]
    sale.requeue(anna)
    sale.end(anna, State.LEFT)
    sale.rest()
    assert "has no verdict" in caught(sale, 4, anna)


def lost_and_answered_for(sale: PaperSale) -> tuple[str, str]:
    """A ticket that Redis lost; its buyer had joined anew before showing its token."""
    lost = sale.join("anna")
    sale.fault(lost="all")
    sale.epoch = 1
    del sale.tickets[lost]
    again = sale.join("anna", key="again")
    sale.status(lost, answers=again)
    sale.buy(again)
    sale.status(lost, answers=again)
    sale.rest()
    return lost, again


def test_8_a_lost_ticket_for_which_another_one_of_its_buyer_answers(sale: PaperSale) -> None:
    lost, again = lost_and_answered_for(sale)
    sale.aliases[lost] = again
    lawful(sale)


def test_8_a_lost_ticket_for_which_nobody_answers(sale: PaperSale) -> None:
    lost, _ = lost_and_answered_for(sale)
    assert "no such ticket" in caught(sale, 8, lost)
