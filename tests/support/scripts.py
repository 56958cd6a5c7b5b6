"""Where the Lua scripts are: ``(package, name)`` of each, found on disk, so that a new one is tested without asking."""

from importlib.resources import files
from typing import Any, Final

from fairline.store.scripts import Script

PACKAGES: Final = ("fairline.store", "admission")

ALL_SCRIPTS: Final = tuple(
    (package, path.name.removesuffix(".lua"))
    for package in PACKAGES
    for path in sorted((files(package) / "lua").iterdir(), key=lambda each: each.name)
    if path.name.endswith(".lua")
)


def script_of(package: str, name: str) -> Script[Any]:
    """The script, with replies of any shape."""
    return Script(package, name, Any)


def shared_parts() -> list[tuple[str, str]]:
    """(name, text) of each file that scripts include."""
    folder = files("fairline.store") / "lua" / "shared"
    return [(path.name, path.read_text()) for path in sorted(folder.iterdir(), key=lambda each: each.name)]
