"""What the pages name exists: tests, other pages and their headings, settings, metrics, commands, verbs."""

import re

import pytest

from tests.support.deployment import ROOT
from tests.support.pages import PAGES, dead_links, missing_tests, unknown_names

README = (ROOT / "README.md").read_text()
# Pages for those who run Fairline: every name on them is one to type.
TO_TYPE = ("README.md", "docs/runbook.md", "docs/operations.md")


@pytest.mark.parametrize("name", PAGES)
def test_every_test_and_heading_that_a_page_names_exists(name: str) -> None:
    text = PAGES[name].read_text()
    assert missing_tests(text) == []
    assert dead_links(PAGES[name], text) == []


@pytest.mark.parametrize("name", TO_TYPE)
def test_every_setting_metric_and_command_that_it_names_exists(name: str) -> None:
    assert unknown_names(PAGES[name].read_text()) == []


@pytest.mark.parametrize(
    "planted", ["`tests/chaos/test_no.py`", "`tests/contract/test_pages.py::test_nothing`", "`test_no_such_thing`"]
)
def test_a_test_that_is_not_there_is_found(planted: str) -> None:
    assert missing_tests(planted)


@pytest.mark.parametrize("planted", ["[a](no.md)", "[a](docs/operations.md#no-such-heading)", "[a](#nor-this)"])
def test_a_link_that_leads_nowhere_is_found(planted: str) -> None:
    assert dead_links(ROOT / "README.md", planted)


@pytest.mark.parametrize("planted", ["FAIRLINE_SPEED", "`fairline_speed_total`", "`fairline hurry`"])
def test_a_name_that_means_nothing_is_found(planted: str) -> None:
    assert unknown_names(planted)


def test_the_readme_names_tests_and_verbs_that_exist() -> None:
    assert len(re.findall(r"`tests/[\w/]+\.py", README)) >= 10
    verbs = set(re.findall(r"^\s+make (\w+)", README, re.MULTILINE))
    assert verbs
    assert verbs <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
