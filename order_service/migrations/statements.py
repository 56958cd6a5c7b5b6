"""Reads the statements of one migration: ``versions/NAME.sql``, parted by lines of ``-- ----``.

One at a time, because a prepared statement, which is all the driver has, holds one.
"""

from importlib.resources import files

PART = "-- ----\n"


def statements(name: str) -> list[str]:
    """The statements of a migration, in order."""
    text = files(__package__).joinpath("versions", f"{name}.sql").read_text()
    return [part.strip() for part in text.split(PART)]
