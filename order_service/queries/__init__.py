"""Every statement of the order service, one a file. Its first two lines say what it does and why it may be repeated."""

from functools import cache
from importlib.resources import files


@cache
def query(name: str) -> str:
    """The text of ``queries/NAME.sql``."""
    return files(__name__).joinpath(f"{name}.sql").read_text()
