"""The README names tests, files and verbs that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def missing_tests(text: str) -> list[str]:
    """Tests that a text names and that are not there."""
    missing = []
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text):
        file = ROOT / path
        if not file.is_file() or (name and f"def {name}(" not in file.read_text()):
            missing.append(f"{path}::{name}")
    return missing


def test_every_test_that_it_names_exists() -> None:
    assert len(re.findall(r"`tests/[\w/]+\.py", README)) >= 10
    assert missing_tests(README) == []


@pytest.mark.parametrize("planted", ["`tests/chaos/test_no.py`", "`tests/contract/test_readme.py::test_nothing`"])
def test_a_test_that_is_not_there_is_found(planted: str) -> None:
    assert missing_tests(planted)


def test_every_page_and_verb_that_it_names_exists() -> None:
    pages = re.findall(r"\]\(([^)#]+)\)", README)
    assert [page for page in pages if not page.startswith("http") and not (ROOT / page).exists()] == []
    verbs = set(re.findall(r"^\s+make (\w+)", README, re.MULTILINE))
    assert verbs
    assert verbs <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
