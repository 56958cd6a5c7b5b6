"""One statement a file, with two lines on top that say what it does and what makes it safe to repeat."""

from importlib.resources import files

import pytest

from order_service.migrations.statements import statements
from order_service.queries import query

FOLDER = files("order_service.queries")
NAMES = sorted(file.name for file in FOLDER.iterdir() if file.name.endswith(".sql"))
SOURCES = [
    file.read_text() for file in files("order_service").iterdir() if file.name.endswith(".py") and file.is_file()
]


@pytest.mark.parametrize("name", NAMES)
def test_two_comment_lines_and_one_statement(name: str) -> None:
    what, why, *statement = FOLDER.joinpath(name).read_text().splitlines()
    assert what.startswith("-- ")
    assert why.startswith("-- Repeatable: ")
    assert statement
    assert not any(line.startswith("--") for line in statement)
    assert ";" not in "".join(statement)


@pytest.mark.parametrize("name", NAMES)
def test_every_statement_is_used(name: str) -> None:
    asked = f'query("{name.removesuffix(".sql")}")'
    assert any(asked in source for source in SOURCES)
    assert query(name.removesuffix(".sql")) == FOLDER.joinpath(name).read_text()


def test_a_migration_is_read_as_single_statements() -> None:
    found = statements("0001_orders")
    assert len(found) > 10
    code = ["".join(line for line in one.splitlines() if not line.startswith("--")) for one in found]
    assert all(one and ";" not in one.partition("$$")[0] for one in code)
