"""The number of places follows the time that joins take, down and up again."""

import pytest

from gateway.patience import LEAST, WINDOW, Patience
from gateway.shares import Shares


class Queue:
    """A gateway that does ``a_second`` joins, in order, and is always asked for more than it lets in."""

    def __init__(self, places: int, *, within_s: float) -> None:
        self.shares = Shares(places)
        self.patience = Patience(self.shares, within_s=within_s)
        self.now = 0.0
        self._began: list[float] = []

    def serve(self, joins: int, *, a_second: float) -> float:
        """The longest time that one of the last tenth of these joins took."""
        took = []
        for _ in range(joins):
            while self.shares.enter("sale"):
                self._began.append(self.now)
            self.now += 1 / a_second
            began = self._began.pop(0)
            self.shares.leave("sale")
            took.append(self.now - began)
            self.patience.took(began, self.now)
        return max(took[-joins // 10 :])


@pytest.mark.parametrize("a_second", [500, 1_000, 4_000])
def test_joins_are_answered_in_about_the_time_they_may_take_however_slow_the_machine(a_second: float) -> None:
    queue = Queue(2_000, within_s=0.25)
    assert queue.serve(20_000, a_second=a_second) <= 0.25 * 1.6
    assert queue.shares.most >= min(2_000, 0.25 * a_second * 0.6), "and as many are under way as may be"


def test_a_fast_machine_keeps_all_places() -> None:
    queue = Queue(2_000, within_s=0.25)
    queue.serve(20_000, a_second=20_000)
    assert queue.shares.most == 2_000


def test_after_a_slow_time_all_places_come_back() -> None:
    queue = Queue(2_000, within_s=0.25)
    queue.serve(5_000, a_second=300)
    assert queue.shares.most < 500
    queue.serve(40_000, a_second=20_000)
    assert queue.shares.most == 2_000


def test_never_fewer_than_the_least_and_never_more_than_at_first() -> None:
    queue = Queue(2_000, within_s=0.001)
    queue.serve(5_000, a_second=10)
    assert queue.shares.most == LEAST
    few = Queue(10, within_s=0.001)
    few.serve(500, a_second=10)
    assert few.shares.most == 10


def test_one_slow_moment_counts_once() -> None:
    shares = Shares(1_000)
    patience = Patience(shares, within_s=0.25)
    for _ in range(50 * WINDOW):  # all were under way when everything stood still for a second
        patience.took(0.0, 1.0)
    assert shares.most == 700
