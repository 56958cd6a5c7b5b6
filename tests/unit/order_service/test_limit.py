"""How many records may be given up before nothing more is."""

from order_service.limit import LATELY, Limit


def limit(in_a_row: int = 3, share: float = 0.01) -> Limit:
    return Limit(in_a_row=in_a_row, share=share)


def give_up(limit: Limit, count: int, *, start: int = 0) -> None:
    for offset in range(start, start + count):
        limit.given_up(("t", 0, offset))


def test_as_many_in_a_row_as_said_and_not_one_more() -> None:
    one = limit()
    give_up(one, 2)
    assert one.reached() == ""
    give_up(one, 1, start=2)
    assert one.in_a_row
    assert one.reached() == "3 were given up in a row"


def test_one_that_is_written_begins_the_row_anew() -> None:
    one = limit()
    give_up(one, 3)
    one.written()
    assert not one.in_a_row
    assert one.reached() == ""


def test_a_transaction_in_which_everything_waits_is_nothing_written() -> None:
    one = limit()
    give_up(one, 3)
    one.written(0)
    assert one.in_a_row


def test_the_same_record_again_counts_once() -> None:
    one = limit()
    for _ in range(9):
        give_up(one, 1)
    assert one.reached() == ""


def test_a_share_of_the_last_thousand_is_the_limit_though_others_are_written() -> None:
    one = limit(share=0.01)
    for offset in range(10):
        assert one.reached() == ""
        give_up(one, 1, start=offset)
        one.written(5)
    assert one.reached() == "10 of the last 1000 were given up"
    assert not one.in_a_row


def test_the_share_is_over_once_enough_are_written() -> None:
    one = limit(share=0.01)
    for offset in range(10):
        give_up(one, 1, start=offset)
        one.written()
    one.written(LATELY - 20)
    assert one.reached()
    one.written()
    assert one.reached() == ""


def test_one_may_always_be_given_up_however_small_the_share() -> None:
    assert limit(share=0.000_1).reached() == ""
