"""The adapters that need no shop, the breaker, and how long a lease must be (L4)."""

import time

import pytest

from admission.validators import YES, Accept, Breaker, Simulated, lease_ms_for
from fairline.sale import Validator
from tests.support.admission import admitted

BUYERS = [f"buyer-{number}" for number in range(2000)]


class Clock:
    """``time.monotonic`` in a test's hands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def is_open(breaker: Breaker) -> bool:
    return breaker.open  # in a function, so that mypy does not think it stays what it was


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


async def _declined(share: float, seed: int, sku: str = "seat") -> set[str]:
    check = Simulated(share, seed)
    said = {buyer: await check(admitted(buyer, sku=sku)) for buyer in BUYERS}
    assert set(said.values()) <= {YES, "payment_declined"}
    return {buyer for buyer, word in said.items() if word != YES}


async def test_accept_says_yes_to_everybody_and_never_rests() -> None:
    check = Accept()
    assert await check(admitted()) == YES
    assert not check.resting
    assert check.at_once >= 100_000


@pytest.mark.parametrize("share", [0.1, 0.5])
async def test_simulated_declines_about_the_share_it_is_told(share: float) -> None:
    declined = await _declined(share, seed=1)
    assert abs(len(declined) / len(BUYERS) - share) < 0.04  # four times the deviation of a fair draw


async def test_simulated_declines_nobody_at_none_and_everybody_at_all() -> None:
    assert await _declined(0.0, seed=1) == set()
    assert await _declined(1.0, seed=1) == set(BUYERS)


async def test_simulated_declines_the_same_buyers_for_the_same_seed_and_others_for_another() -> None:
    first = await _declined(0.3, seed=7)
    assert first == await _declined(0.3, seed=7)
    assert first != await _declined(0.3, seed=8)
    assert first != await _declined(0.3, seed=7, sku="stand")
    assert first < await _declined(0.6, seed=7)  # a larger share only adds


def test_a_breaker_opens_after_failures_in_a_row_only(clock: Clock) -> None:
    breaker = Breaker(failures=3, rest_s=2)
    for ok in (False, False, True, False, False):
        breaker.end(ok=ok, trying=breaker.begin())
    assert not is_open(breaker)
    breaker.end(ok=False, trying=breaker.begin())
    assert is_open(breaker)


def test_a_breaker_rests_then_lets_exactly_one_call_through(clock: Clock) -> None:
    breaker = Breaker(failures=1, rest_s=2)
    breaker.end(ok=False, trying=breaker.begin())
    clock.now += 1.9
    assert is_open(breaker)
    clock.now += 0.2
    assert not is_open(breaker)
    trying = breaker.begin()
    assert trying
    assert is_open(breaker), "a second call may not go out meanwhile"
    clock.now += 60
    assert is_open(breaker), "however long the first one takes"
    breaker.end(ok=True, trying=trying)
    assert not is_open(breaker)
    assert not breaker.failed


def test_a_breaker_rests_again_when_the_call_that_tries_fails(clock: Clock) -> None:
    breaker = Breaker(failures=2, rest_s=2)
    for _ in range(2):
        breaker.end(ok=False, trying=breaker.begin())
    clock.now += 3
    breaker.end(ok=False, trying=breaker.begin())
    assert is_open(breaker)
    clock.now += 3
    assert not is_open(breaker)


def test_a_cancelled_try_does_not_wedge_the_breaker(clock: Clock) -> None:
    breaker = Breaker(failures=1, rest_s=2)
    breaker.end(ok=False, trying=breaker.begin())
    clock.now += 3
    breaker.end(ok=None, trying=breaker.begin())
    assert not is_open(breaker), "the next call may try"
    trying = breaker.begin()
    assert trying
    breaker.end(ok=True, trying=trying)
    assert not breaker.failed


def test_a_cancelled_call_counts_neither_way(clock: Clock) -> None:
    breaker = Breaker(failures=2, rest_s=2)
    breaker.end(ok=False, trying=breaker.begin())
    for _ in range(5):
        breaker.end(ok=None, trying=breaker.begin())
    assert not is_open(breaker)
    breaker.end(ok=False, trying=breaker.begin())
    assert is_open(breaker)


def test_a_late_call_from_before_does_not_let_a_second_try_through(clock: Clock) -> None:
    breaker = Breaker(failures=1, rest_s=2)
    late = [breaker.begin() for _ in range(3)]
    breaker.end(ok=False, trying=breaker.begin())
    clock.now += 3
    trying = breaker.begin()
    breaker.end(ok=None, trying=late.pop())
    breaker.end(ok=False, trying=late.pop())
    clock.now += 60
    assert is_open(breaker), "the one that tries is still out"
    breaker.end(ok=True, trying=late.pop())  # the shop has answered after all
    assert not is_open(breaker)
    breaker.end(ok=True, trying=trying)
    assert not is_open(breaker)


@pytest.mark.parametrize("kind", ["accept", "simulated"])
def test_l4_a_lease_is_as_long_as_the_setting_where_nobody_is_asked(kind: str) -> None:
    validator = Validator(kind=kind, timeout_ms=60_000)  # type: ignore[arg-type]
    assert lease_ms_for(validator, lease_ms=10_000, margin_ms=500, tries=5) == 10_000


@pytest.mark.parametrize("timeout_ms", [1, 1000, 4000, 60_000])
@pytest.mark.parametrize("tries", [1, 2, 5])
@pytest.mark.parametrize("margin_ms", [50, 500, 5000])
def test_l4_a_lease_is_longer_than_the_validators_time_its_tries_and_the_margin(
    timeout_ms: int, tries: int, margin_ms: int
) -> None:
    validator = Validator(kind="http", url="http://shop.test/", timeout_ms=timeout_ms)
    lease_ms = lease_ms_for(validator, lease_ms=10_000, margin_ms=margin_ms, tries=tries)
    waits_ms = 200 * (tries - 1)
    assert lease_ms > timeout_ms * tries + waits_ms + margin_ms
    assert lease_ms >= 10_000
