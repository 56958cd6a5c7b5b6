"""A limit that is shared: whoever surges leaves room for the others."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.shares import Shares


def _fill(shares: Shares, *parties: str) -> list[int]:
    """Everybody asks in turn until nobody gets any more; how many each got."""
    got = dict.fromkeys(parties, 0)
    asking = True
    while asking:
        entered = [party for party in parties if shares.enter(party)]
        for party in entered:
            got[party] += 1
        asking = bool(entered)
    return list(got.values())


def test_one_alone_has_half_two_have_a_third_each_and_three_a_quarter() -> None:
    assert _fill(Shares(120), "a") == [60]
    assert _fill(Shares(120), "a", "b") == [40, 40]
    assert _fill(Shares(120), "a", "b", "c") == [30, 30, 30]


def test_whoever_comes_late_finds_places_although_another_has_taken_all_it_can() -> None:
    shares = Shares(100)
    assert _fill(shares, "surge") == [50]
    assert not shares.full("calm")
    assert _fill(shares, "calm") == [25]


def test_a_place_that_is_given_back_is_free_for_anybody() -> None:
    shares = Shares(4)
    assert _fill(shares, "a") == [2]
    assert not shares.enter("a")
    shares.leave("a")
    shares.leave("a")
    assert shares.taken == 0
    assert _fill(shares, "b") == [2]


def test_a_single_place_is_no_dead_end() -> None:
    shares = Shares(1)
    assert shares.enter("a")
    assert not shares.enter("b")
    shares.leave("a")
    assert shares.enter("b")


@given(
    most=st.integers(1, 40),
    moves=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=200),
)
def test_never_more_than_all_places_and_the_quick_question_never_says_no_too_often(
    most: int, moves: list[tuple[str, bool]]
) -> None:
    shares = Shares(most)
    held = dict.fromkeys("abcd", 0)
    for party, coming in moves:
        if coming:
            full = shares.full(party)
            assert shares.crowded or not full
            assert shares.enter(party) is not full
            held[party] += not full
        elif held[party]:
            shares.leave(party)
            held[party] -= 1
        assert shares.taken == sum(held.values()) <= most
