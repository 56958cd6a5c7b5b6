"""fairline.clock: milliseconds and instants are the same thing, told twice."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairline.clock import at, now_ms, shift_by, to_ms


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


@pytest.fixture
def shift(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "shift"
    shift_by(str(file))
    yield file
    shift_by("")


def test_a_shifted_clock_jumps_while_the_process_runs_and_comes_back(shift: Path) -> None:
    hour = 3_600_000
    for shifted_by in (-hour, 24 * hour):
        shift.write_text(f"{shifted_by}\n")
        assert abs(at(now_ms()) - datetime.now(UTC) - timedelta(milliseconds=shifted_by)) < timedelta(minutes=30)
    shift.unlink()
    assert abs(at(now_ms()) - datetime.now(UTC)) < timedelta(minutes=30)


@pytest.mark.parametrize("text", ["", "an hour", "1.5"])
def test_a_shift_that_is_no_number_shifts_nothing(shift: Path, text: str) -> None:
    shift.write_text(text)
    assert abs(at(now_ms()) - datetime.now(UTC)) < timedelta(minutes=30)
