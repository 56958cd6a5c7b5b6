"""fairline.clock: milliseconds and instants are the same thing, told twice."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from fairline.clock import at, now_ms, to_ms


@given(st.integers(0, 4_000_000_000_000))
def test_an_instant_goes_through_milliseconds_unchanged(ms: int) -> None:
    assert to_ms(at(ms)) == ms
    assert at(ms).tzinfo is UTC


def test_an_offset_is_understood() -> None:
    here = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert to_ms(here) == to_ms(datetime(2026, 1, 1, tzinfo=UTC)) == 1_767_225_600_000


def test_now_lies_between_its_neighbours() -> None:
    before = datetime.now(UTC)
    now = at(now_ms())
    assert before - timedelta(milliseconds=1) <= now <= datetime.now(UTC)
