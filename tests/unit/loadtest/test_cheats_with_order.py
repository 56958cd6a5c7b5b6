"""Doctored sales that the checker must catch, and odd ones that it must not: invariants 5 and 6."""

import msgspec
import pytest

from fairline.states import State
from loadtest.history import Answered, LostWrites, Moved
from tests.support.paper_sale import PaperSale, caught, lawful


@pytest.fixture
def sale() -> PaperSale:
    return PaperSale(stock=3)


def swap_arrivals(sale: PaperSale, one: str, other: str) -> None:
    """Who came first has the later arrival, everywhere."""
    arrivals = {one: sale.tickets[other].arrival, other: sale.tickets[one].arrival}
    for name, arrival in arrivals.items():
        sale.edit(name, arrival=arrival)
    sale.records = [
        msgspec.structs.replace(each, arrival=arrivals[each.ticket_id])
        if isinstance(each, Answered) and each.ticket_id in arrivals
        else each
        for each in sale.records
    ]


# 5: in order


def test_5_a_join_that_was_answered_before_another_was_sent_stands_behind_it(sale: PaperSale) -> None:
    """Only the clients' clocks show it: by their arrivals all went in order."""
    anna, bert = (sale.join(name, listen=False) for name in ("anna", "bert"))
    swap_arrivals(sale, anna, bert)
    sale.buy(bert, anna)
    sale.rest()
    assert "was there at" in caught(sale, 5, anna, bert)


def test_5_an_arrival_that_was_given_twice(sale: PaperSale) -> None:
    anna = sale.join("anna", listen=False)
    sale.arrivals = 0
    bert = sale.join("bert", listen=False)
    sale.buy(anna, bert)
    assert "was given to" in caught(sale, 5, anna, bert)


def test_5_a_retry_that_cost_a_place(sale: PaperSale) -> None:
    """Subtle: the first answer was heard by a client that asked again all the same."""
    anna = sale.join("anna", listen=False)
    sale.join("bert", listen=False)
    sale.edit(anna, arrival=3)
    sale.join("anna", listen=False)
    assert "has had the arrivals [1, 3]" in caught(sale, 5, anna)


def test_5_somebody_behind_was_admitted_and_the_one_before_was_sent_home(sale: PaperSale) -> None:
    anna, bert = (sale.join(name, listen=False) for name in ("anna", "bert"))
    sale.buy(bert)
    sale.end(anna, State.DECLINED, "sale_closed")
    sale.state = "ended"
    sale.rest()
    assert "had no turn" in caught(sale, 5, anna, bert)


def test_5_somebody_behind_was_admitted_and_the_one_before_was_told_sold_out(sale: PaperSale) -> None:
    """Subtle: nobody got a unit, so nothing is missing; but whoever is behind had a turn."""
    anna, bert = (sale.join(name, listen=False) for name in ("anna", "bert"))
    sale.admit(bert)
    sale.end(bert, State.DECLINED, "payment_declined")
    sale.end(anna, State.SOLD_OUT)
    assert "had no turn" in caught(sale, 5, anna, bert)


def test_5_a_turn_that_the_channel_did_not_tell_of(sale: PaperSale) -> None:
    """Subtle: all other moves were told, and Redis forgets what it did not publish."""
    anna, bert = sale.join("anna"), sale.join("bert")
    sale.buy(anna, bert)
    sale.rest()
    sale.records = [each for each in sale.records if not (isinstance(each, Moved) and each.ticket_ids == (anna,))]
    assert "did not tell of" in caught(sale, 5, anna)
    sale.records.append(Moved(at_s=sale.now, ticket_ids=()))
    lawful(sale)


def test_5_somebody_behind_was_admitted_a_little_earlier(sale: PaperSale) -> None:
    """Subtle: both bought; one asked its status in between, and nobody listened to the channel."""
    anna, bert = sale.join("anna"), sale.join("bert")
    sale.admit(bert)
    sale.status(anna)
    sale.buy(anna)
    sale.reserve(bert)
    sale.confirm(bert)
    sale.rest()
    sale.records = [each for each in sale.records if not isinstance(each, Moved)]
    assert "still waited" in caught(sale, 5, anna, bert)


def test_5_the_channel_tells_of_another_order(sale: PaperSale) -> None:
    """Subtle: no client could see it."""
    anna, bert = (sale.join(name, listen=False) for name in ("anna", "bert"))
    sale.admit(bert)
    sale.admit(anna)
    for ticket in (anna, bert):
        sale.reserve(ticket)
        sale.confirm(ticket)
    sale.rest()
    assert "was admitted before" in caught(sale, 5, anna, bert)


def test_5_a_place_that_grows(sale: PaperSale) -> None:
    sale.join("anna", listen=False)
    bert = sale.join("bert")
    sale.progress(bert, served=1)
    sale.progress(bert, served=0)
    assert "from place 1 to 2" in caught(sale, 5, bert)


def test_5_a_place_that_grows_by_older_ones_in_a_sale_that_was_never_rebuilt(sale: PaperSale) -> None:
    bert = sale.join("bert")
    sale.progress(bert, served=0)
    sale.progress(bert, served=0, older=1)
    assert "from place 1 to 2" in caught(sale, 5, bert)


def test_5_two_joins_at_the_same_time_may_arrive_in_either_order(sale: PaperSale) -> None:
    anna, bert = (sale.join(name, listen=False) for name in ("anna", "bert"))
    sale.records = [
        msgspec.structs.replace(each, at_s=each.at_s + 1) if isinstance(each, Answered) and each.arrival else each
        for each in sale.records
    ]
    swap_arrivals(sale, anna, bert)
    sale.buy(bert, anna)
    sale.rest()
    lawful(sale)


def test_5_a_lease_that_ended_a_leave_that_raced_and_a_place_told_anew(sale: PaperSale) -> None:
    anna, bert, carl, dora = (sale.join(name) for name in ("anna", "bert", "carl", "dora"))
    sale.admit(anna)
    sale.requeue(anna)
    sale.status(anna)
    sale.admit(bert)  # together with anna, by another controller, before her lease had ended
    sale.progress(dora, served=2)
    sale.end(carl, State.LEFT)
    sale.listen(dora)
    sale.progress(dora, served=1)  # another copy of the notifier, that knows less for a moment
    sale.buy(anna)
    sale.reserve(bert)
    sale.confirm(bert)
    sale.buy(dora)
    sale.rest()
    lawful(sale)


def test_5_a_ticket_that_was_handed_back_undecided_has_had_its_turn(sale: PaperSale) -> None:
    anna, bert = sale.join("anna"), sale.join("bert")
    sale.admit(anna, bert)
    sale.requeue(anna)
    sale.edit(anna, tries=0)  # L5: the breaker is open, the try does not count
    sale.reserve(bert)
    sale.confirm(bert)
    sale.state = "paused"
    sale.rest()
    lawful(sale)


def test_5_a_readmitted_ticket_has_the_arrival_of_its_released_one(sale: PaperSale) -> None:
    anna, bert = sale.join("anna"), sale.join("bert")
    sale.admit(anna, bert)
    sale.reserve(anna)
    sale.release(anna)
    sale.reserve(bert)
    sale.confirm(bert)
    again = "00000000-0000-5000-8000-000000000001"
    now_ms = sale.tickets[bert].changed_ms
    sale.tickets[again] = msgspec.structs.replace(
        sale.tickets[anna], state=State.WAITING, reason="", tries=0, joined_ms=now_ms
    )
    sale.buy(again)
    sale.rest()
    lawful(sale)


def test_5_a_new_epoch_sorts_after_the_old_one(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.fault(lost="some")
    sale.epoch = 1
    bert = sale.join("bert")
    sale.buy(anna, bert)
    sale.rest()
    lawful(sale)


@pytest.mark.parametrize("lost", ["all", "none"])
def test_5_who_comes_back_after_a_rebuild_stands_before_who_came_later(sale: PaperSale, lost: LostWrites) -> None:
    anna = sale.join("anna")
    sale.fault(lost=lost)
    sale.epoch = 1
    bert = sale.join("bert")
    sale.progress(bert, served=1)
    sale.progress(bert, served=1, older=1)
    sale.buy(anna, bert)
    sale.rest()
    lawful(sale)


def test_5_a_place_that_grows_after_a_loss_though_nobody_came_back(sale: PaperSale) -> None:
    sale.fault(lost="all")
    sale.epoch = 1
    bert = sale.join("bert")
    sale.progress(bert, served=0, older=0)
    sale.progress(bert, served=-1, older=0)
    assert "from place 1 to 2" in caught(sale, 5, bert)


# 6: never faster than told


def test_6_more_at_once_than_the_bucket_holds() -> None:
    sale = PaperSale(stock=9, rate=1.0)
    buyers = [sale.join(str(number)) for number in range(6)]
    for buyer in buyers:
        sale.status(buyer)
    sale.admit(*buyers)
    sale.rest()
    assert "6 admitted within" in caught(sale, 6, *buyers)


def test_6_one_too_many_in_a_long_stretch() -> None:
    """Subtle: five a second instead of 4.9, which overdraws the bucket by one after six seconds."""
    for rate, verdict in ((4.9, "violated"), (5.2, "ok")):
        sale = PaperSale(stock=99, rate=rate)
        for buyer in [sale.join(str(number), listen=False) for number in range(30)]:
            sale.admit(buyer)
            sale.sample()
        assert sale.verdicts()[6] == verdict


def test_6_the_old_rate_goes_on_after_the_new_one_was_answered() -> None:
    sale = PaperSale(stock=99, rate=100.0)
    sale.act("change", body={"rate_per_s": 1.0})
    buyers = [sale.join(str(number), listen=False) for number in range(20)]
    for buyer in buyers:
        sale.admit(buyer)
        sale.status(buyer)
    assert "20 admitted" in caught(sale, 6, *buyers)


def test_6_admitted_while_the_sale_was_paused(sale: PaperSale) -> None:
    """Subtle: no rate is set at all."""
    anna = sale.join("anna")
    sale.act("pause")
    sale.status(anna)
    sale.admit(anna)
    sale.act("resume")
    assert "after pause" in caught(sale, 6, anna)


def test_6_one_more_lease_than_the_capacity_for_a_moment() -> None:
    sale = PaperSale(stock=9, capacity=2)
    buyers = [sale.join(str(number)) for number in range(3)]
    sale.admit(*buyers)
    sale.sample()
    for buyer in buyers:
        sale.reserve(buyer)
        sale.confirm(buyer)
    sale.sample()
    assert "3 were admitted at a time" in caught(sale, 6)


def test_6_a_capacity_that_nobody_looked_at_cannot_be_told() -> None:
    sale = PaperSale(stock=9, capacity=2)
    sale.buy(sale.join("anna"))
    sale.rest()
    assert sale.verdicts()[6] == "cannot tell"


def test_6_a_faster_rate_counts_from_when_it_was_sent_even_if_its_answer_was_lost() -> None:
    sale = PaperSale(stock=99, rate=1.0)
    sale.act("change", lost=True, body={"rate_per_s": 100.0})
    buyers = [sale.join(str(number), listen=False) for number in range(20)]
    for buyer in buyers:
        sale.admit(buyer)
        sale.status(buyer)
        sale.reserve(buyer)
        sale.confirm(buyer)
        sale.sample()
    sale.end(sale.join("late"), State.LEFT)
    sale.rest()
    lawful(sale)


def test_6_leases_outlive_a_lower_capacity_and_a_pause() -> None:
    sale = PaperSale(stock=9, capacity=3)
    buyers = [sale.join(str(number)) for number in range(3)]
    sale.admit(*buyers)
    sale.sample()
    sale.act("pause")
    sale.act("change", body={"capacity": 1})
    sale.sample()
    sale.sample()
    for buyer in buyers:
        sale.reserve(buyer)
        sale.confirm(buyer)
        sale.sample()
    sale.rest()
    lawful(sale)
