"""``docs/failures.md`` says what its test asks, for every part that can be taken away."""

import pytest

from tests.support.alerts import RULES, alerts, load
from tests.support.failures import CALLS, FAILURES, PAGE, SHOWN_BY, written
from tests.support.pages import missing_tests
from tests.support.take_away import WAYS

TEXT = PAGE.read_text()


def test_the_tables_are_those_that_the_test_reads() -> None:
    assert written(TEXT) == TEXT, "write it anew: python -m tests.support.failures"


@pytest.mark.parametrize(
    ("was", "spoilt"),
    [("**503 unavailable**", "200"), ("| Kafka down |", "| Kafka gone |"), ("orders wait in Kafka", "")],
)
def test_a_cell_that_says_something_else_is_found(was: str, spoilt: str) -> None:
    assert was in TEXT
    changed = TEXT.replace(was, spoilt)
    assert written(changed) != changed
    assert written(changed) == TEXT


def test_a_page_without_a_place_for_the_tables_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the tables"):
        written("# Failures")


def test_every_part_has_its_row_and_each_row_can_be_taken_away() -> None:
    assert [failure.name for failure in FAILURES] == list(WAYS)
    for failure in FAILURES:
        assert set(failure.answers) == set(CALLS)
        assert failure.alerts, failure.name


def test_what_a_row_names_exists() -> None:
    known = {alert["alert"] for alert in alerts(load(RULES))}
    assert {alert for failure in FAILURES for alert in failure.alerts} <= known
    assert missing_tests(f"`{SHOWN_BY}`") == []
    assert f"`{SHOWN_BY}`" in TEXT
