"""``docs/guarantees.md`` lists the saboteurs that there are, and each would still do its harm."""

import re

import pytest

from tests.saboteurs.table import BY_TESTS, BY_THE_CHECKER, PAGE, SABOTEURS, Saboteur, written
from tests.support.deployment import ROOT

PAGE_TEXT = PAGE.read_text()


def test_the_page_has_the_table_of_the_code() -> None:
    assert written(PAGE_TEXT) == PAGE_TEXT, "write it anew: python -m tests.saboteurs.table"


def test_a_page_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the saboteurs"):
        written("# What is guaranteed")


@pytest.mark.parametrize("saboteur", SABOTEURS, ids=lambda each: each.name.replace(" ", "-"))
def test_its_line_is_there_once_and_would_be_another(saboteur: Saboteur) -> None:
    sound = (ROOT / saboteur.file).read_text()
    assert saboteur.change(sound) != sound


def test_a_line_that_is_not_there_or_there_twice_is_refused() -> None:
    for text in ("", BY_TESTS[0].line * 2):
        with pytest.raises(LookupError, match="times"):
            BY_TESTS[0].change(text)


@pytest.mark.parametrize("saboteur", BY_TESTS, ids=lambda each: each.name.replace(" ", "-"))
def test_whoever_catches_it_exists(saboteur: Saboteur) -> None:
    path, _, name = str(saboteur.caught_by).partition("[")[0].partition("::")
    assert re.search(rf"def {name}\(", (ROOT / path).read_text())


def test_each_guarantee_has_a_saboteur_that_the_checker_finds_from_outside() -> None:
    assert [each.caught_by for each in BY_THE_CHECKER] == [*range(1, 9)]
