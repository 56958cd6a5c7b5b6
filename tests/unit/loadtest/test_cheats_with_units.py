"""Doctored sales that the checker must catch, and odd ones that it must not: invariants 1, 2 and 7."""

import pytest

from fairline.states import State
from loadtest.finals import Unit
from tests.support.paper_sale import SEAT, PaperSale, caught, lawful


@pytest.fixture
def sale() -> PaperSale:
    return PaperSale(stock=2)


# 1: never oversold


def test_1_a_unit_that_postgres_sold_twice(sale: PaperSale) -> None:
    anna, bert = sale.join("anna"), sale.join("bert")
    sale.buy(anna)
    sale.free = [1, 2]
    sale.buy(bert)
    sale.free = [2]
    sale.rest()
    assert "unit 1 is sold to" in caught(sale, 1, anna, bert)


def test_1_a_unit_that_does_not_exist(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.free = [3]
    sale.buy(anna)
    sale.free = [1, 2]
    assert "unit 3" in caught(sale, 1, anna)


def test_1_a_unit_that_was_sold_before_its_stock_was_raised(sale: PaperSale) -> None:
    """Subtle: in the end there are as many units as rows; only the time of the telling shows it."""
    buyers = [sale.join(name) for name in ("anna", "bert", "carl")]
    sale.free = [1, 2, 3]
    sale.buy(*buyers)
    sale.free, sale.high = [], 2
    sale.restock(3)
    sale.free = []
    sale.rest()
    assert "number 3 of 2 units" in caught(sale, 1, buyers[2])


def test_1_a_sold_unit_that_is_still_free_in_redis(sale: PaperSale) -> None:
    """Subtle: nothing is oversold yet, but the next buyer would be given it."""
    anna = sale.join("anna")
    sale.buy(anna)
    sale.edit(anna, units=(2,))
    sale.free = [1]
    assert "sold to" in caught(sale, 1, anna)


def test_1_a_stock_in_postgres_that_no_operator_asked_for(sale: PaperSale) -> None:
    sale.stock = sale.high = 3
    sale.free = [1, 2, 3]
    assert "operators asked for 2" in caught(sale, 1)


def test_1_more_held_than_there_is_at_one_instant(sale: PaperSale) -> None:
    """Subtle: the third hold is given back before the end."""
    buyers = [sale.join(name) for name in ("anna", "bert", "carl")]
    sale.buy(*buyers[:2])
    sale.admit(buyers[2])
    sale.sample()
    sale.end(buyers[2], State.DECLINED, "payment_declined")
    sale.rest()
    assert "3 tickets had or claimed one of 2 units" in caught(sale, 1)


def test_1_a_released_unit_is_sold_again_and_every_message_comes_twice(sale: PaperSale) -> None:
    anna, bert, carl = (sale.join(name) for name in ("anna", "bert", "carl"))
    for ticket in (anna, bert):
        sale.admit(ticket)
        sale.reserve(ticket)
        sale.send(ticket)
    sale.release(anna)
    sale.publish(anna)
    sale.confirm(bert)
    sale.publish(bert)
    sale.buy(carl)
    sale.rest()
    assert {unit.unit: unit.ticket_id for unit in sale.units} == {1: carl, 2: bert}
    lawful(sale)


# 2: never undersold


def test_2_a_unit_that_is_neither_sold_nor_free(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.admit(anna)
    sale.reserve(anna)
    sale.release(anna)
    sale.free = [2]
    assert "unit 1 is neither sold nor free" in caught(sale, 2)


def test_2_somebody_still_waits_while_a_unit_is_free(sale: PaperSale) -> None:
    anna = sale.join("anna")
    assert sale.verdicts()[2] == "cannot tell", "it may still move"
    sale.rest()
    assert "2 units are free" in caught(sale, 2, anna)


def test_2_sold_out_was_told_and_somebody_who_came_later_got_a_unit(sale: PaperSale) -> None:
    """Subtle: all units are sold in the end, and the two never met in line."""
    sale.buy(sale.join("anna"))
    sale.refused("bert", "sold_out")
    carl = sale.join("carl")
    sale.buy(carl)
    sale.rest()
    assert "bert was told sold out" in caught(sale, 2, carl)


def test_2_the_line_was_sent_home_while_an_order_could_still_come_back(sale: PaperSale) -> None:
    """Subtle, H4: the unit of a released order stays free for ever."""
    anna, bert, carl = (sale.join(name) for name in ("anna", "bert", "carl"))
    sale.buy(anna)
    sale.admit(bert)
    sale.reserve(bert)
    sale.end(carl, State.SOLD_OUT)
    sale.release(bert)
    sale.rest()
    assert "1 units are free" in caught(sale, 2, carl)


def test_2_sold_out_is_true_after_a_rebuild_too(sale: PaperSale) -> None:
    """D5b: nothing was lost, so the promise holds in full."""
    sale.buy(sale.join("anna"))
    sale.fault(lost="none")
    sale.epoch = 1
    bert = sale.join("bert")
    sale.end(bert, State.SOLD_OUT)
    sale.rest()
    assert "1 units are free" in caught(sale, 2, bert)


def test_2_the_tail_got_a_unit_that_the_head_was_told_is_gone(sale: PaperSale) -> None:
    """Subtle, H13: the sweep went from the head, and more stock came meanwhile."""
    sale.buy(sale.join("anna"), sale.join("bert"))
    head, tail = sale.join("carl"), sale.join("dora")
    sale.end(head, State.SOLD_OUT)
    sale.restock(3)
    sale.buy(tail)
    sale.rest()
    caught(sale, 2, head, tail)


def test_2_more_stock_comes_after_sold_out_was_told(sale: PaperSale) -> None:
    sale.buy(sale.join("anna"), sale.join("bert"))
    sale.end(sale.join("carl"), State.SOLD_OUT)
    sale.refused("dora", "sold_out")
    sale.restock(4)
    sale.buy(sale.join("dora"), sale.join("emil"))
    sale.rest()
    lawful(sale)


def test_2_a_gateway_refuses_for_a_moment_from_an_old_look(sale: PaperSale) -> None:
    sale.buy(sale.join("anna"), sale.join("bert"))
    sale.restock(3)
    sale.refused("carl", "sold_out")
    sale.buy(sale.join("dora"))
    sale.rest()
    lawful(sale)


def test_2_a_gateway_that_goes_on_refusing_from_an_old_look(sale: PaperSale) -> None:
    """Subtle: the same, but long after."""
    sale.buy(sale.join("anna"), sale.join("bert"))
    sale.restock(3)
    sale.step(by_s=5.0)
    sale.refused("carl", "sold_out")
    sale.buy(sale.join("dora"))
    sale.rest()
    assert "carl was told sold out" in caught(sale, 2)


def test_2_whoever_wants_more_than_may_come_back_waits_in_place() -> None:
    sale = PaperSale(stock=2, limit=2)
    anna, bert, carl = sale.join("anna"), sale.join("bert", quantity=2), sale.join("carl")
    sale.admit(anna)
    sale.reserve(anna)
    sale.confirm(anna)
    sale.end(bert, State.DECLINED, "not_enough_left")
    sale.buy(carl)
    sale.rest()
    lawful(sale)


# 7: one per buyer


def test_7_a_buyer_with_two_rows(sale: PaperSale) -> None:
    one, two = sale.join("anna"), sale.join("bert")
    sale.buy(one, two)
    sale.units[1] = Unit(sku=SEAT, unit=2, buyer_id="anna", ticket_id=two, slot=2)
    assert "anna has 2 units" in caught(sale, 7, one, two)


def test_7_a_buyer_who_was_told_twice_that_it_is_theirs(sale: PaperSale) -> None:
    """Subtle: there is one row, and one record that says so; only what the buyer was told shows it."""
    one = sale.join("anna")
    sale.buy(one)
    two = sale.join("anna", key="again")
    sale.admit(two)
    sale.tell(two, state=State.CONFIRMED, units=(2,), final=True)
    sale.end(two, State.DECLINED, "already_bought")
    assert "was told 2 units" in caught(sale, 7, one, two)


def test_7_a_second_ticket_while_the_first_one_is_live(sale: PaperSale) -> None:
    """Subtle, H16: a double click; one of the two left again before it could buy."""
    one = sale.join("anna")
    sale.tickets[one], kept = (
        sale.tickets[one].__class__(state="LEFT", sku=SEAT, buyer_id="anna", arrival=1),
        sale.tickets[one],
    )
    two = sale.join("anna", key="again")
    sale.tickets[one] = kept
    sale.status(one)
    sale.end(one, State.LEFT)
    sale.buy(two)
    sale.rest()
    assert "while" in caught(sale, 7, one, two)


def test_7_a_second_ticket_before_the_first_one_had_ended_by_redis_s_own_clock(sale: PaperSale) -> None:
    """Subtle: both went home, and nobody was told anything of the first one between the second and its end."""
    one = sale.join("anna")
    sale.tickets[one], kept = (
        sale.tickets[one].__class__(state="LEFT", sku=SEAT, buyer_id="anna", arrival=1),
        sale.tickets[one],
    )
    two = sale.join("anna", key="again")
    sale.tickets[one] = kept
    sale.end(one, State.LEFT)
    sale.end(two, State.LEFT)
    sale.rest()
    assert "before" in caught(sale, 7, one, two)


def test_7_a_slot_that_redis_counts_for_nobody(sale: PaperSale) -> None:
    anna = sale.join("anna")
    sale.buy(anna)
    sale.edit(anna, slots=(2,))
    sale.units[0] = Unit(sku=SEAT, unit=1, buyer_id="anna", ticket_id=anna, slot=2)
    assert "slot 2" in caught(sale, 7)


def test_7_a_buyer_asks_again_and_again_and_buys_after_a_release(sale: PaperSale) -> None:
    one = sale.join("anna")
    assert sale.join("anna", key="other") == one, "token null: the same live ticket"
    sale.admit(one)
    sale.reserve(one)
    sale.release(one)
    two = sale.join("anna", key="a-new-one")
    sale.buy(two)
    sale.refused("anna", "already_bought")
    sale.rest()
    lawful(sale)


def test_7_a_limit_of_two_is_two() -> None:
    sale = PaperSale(stock=4, limit=2)
    for ticket in (("anna", "one", 1), ("anna", "another", 1), ("bert", "both", 2)):
        sale.buy(sale.join(ticket[0], key=ticket[1], quantity=ticket[2]))
    sale.rest()
    lawful(sale)
