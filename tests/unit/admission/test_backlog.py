"""How fast a sale may admit: in proportion to what is not settled, told why, never stopped, never swinging."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.backlog import FULL, LEAST, Backlog, Speed, speed_of

BEHIND_MS, OUTBOX, ORDERS = 5_000, 20_000, 10_000
number = st.integers(0, 100_000)
backlogs = st.builds(Backlog, outbox=number, orders=number, age_ms=number)


def speed(backlog: Backlog) -> Speed:
    return speed_of(backlog, behind_ms=BEHIND_MS, outbox_limit=OUTBOX, orders_limit=ORDERS)


@pytest.mark.parametrize(
    ("backlog", "expected"),
    [
        (Backlog(), FULL),
        (Backlog(outbox=10_000, orders=5_000, age_ms=5_000), FULL),
        (Backlog(orders=100, age_ms=5_001), FULL),
        (Backlog(orders=100, age_ms=15_000), Speed(0.5, "old_orders")),
        (Backlog(orders=100, age_ms=10_000), Speed(0.75, "old_orders")),
        (Backlog(outbox=90, orders=100, age_ms=15_000), Speed(0.5, "outbox")),
        (Backlog(outbox=15_000), Speed(0.5, "outbox")),
        (Backlog(orders=7_500), Speed(0.5, "orders")),
        (Backlog(orders=9_000, age_ms=6_000), Speed(0.2, "orders")),
        (Backlog(orders=100, age_ms=3_600_000), Speed(LEAST, "old_orders")),
    ],
)
def test_it_slows_in_proportion_and_says_what_is_slowest(backlog: Backlog, expected: Speed) -> None:
    assert speed(backlog) == expected


@given(backlogs)
def test_it_never_stops_never_goes_faster_and_always_says_why(backlog: Backlog) -> None:
    share, because = speed(backlog)
    assert LEAST <= share <= 1
    assert (because == "") is (share == 1)


@given(backlogs, number, number, number)
def test_more_that_is_unsettled_is_never_a_reason_to_go_faster(
    backlog: Backlog, outbox: int, orders: int, age_ms: int
) -> None:
    worse = Backlog(backlog.outbox + outbox, backlog.orders + orders, backlog.age_ms + age_ms)
    assert speed(worse).share <= speed(backlog).share


@pytest.mark.parametrize("written_a_second", [10.0, 40.0, 90.0])
def test_it_comes_to_rest_where_what_is_admitted_is_what_is_written(written_a_second: float) -> None:
    """A sale at 100 a second before a database that writes fewer: no swinging, and full speed once it can do more."""
    rate, tick_s = 100.0, 0.05
    admitted = written = now = 0.0
    shares: list[float] = []

    def turn(writes: float) -> None:
        nonlocal admitted, written, now
        now += tick_s
        oldest_s = (admitted - written) / max(writes, 1.0)  # as it is when all go through one after another
        share = speed(Backlog(orders=int(admitted - written), age_ms=int(oldest_s * 1000))).share
        shares.append(share)
        admitted += rate * share * tick_s
        written = min(admitted, written + writes * tick_s)

    while now < 300:
        turn(written_a_second)
    settled = shares[len(shares) // 2 :]
    assert max(settled) - min(settled) <= 0.03, "it does not swing"
    assert sum(settled) / len(settled) * rate == pytest.approx(written_a_second, rel=0.05)
    while now < 400:
        turn(1_000.0)
    assert shares[-1] == 1
