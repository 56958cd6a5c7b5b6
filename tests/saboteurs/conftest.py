"""A copy of the product and its tests, in which one line at a time is changed."""

import asyncio
import contextlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.saboteurs.table import Saboteur
from tests.support.deployment import ROOT

COPIED: Final = ("admission", "fairline", "gateway", "loadtest", "notifier", "order_service", "tests", "pyproject.toml")
WITHIN_S: Final = 240  # one run of pytest in the copy
# The last one: "(fact,) = ..." in a test asserts too.
_ASSERTED: Final = re.compile(r"assert|AssertionError|Failed:|ValueError: (not enough|too many) values to unpack")


@dataclass(frozen=True)
class Copy:
    """The product in a folder of its own."""

    path: Path

    @property
    def environ(self) -> dict[str, str]:
        """What makes a process run the copy, besides the environment of the test run."""
        # Byte code is written, whatever the person who runs the tests prefers: it halves the time.
        return {"PYTHONPATH": str(self.path), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": ""}

    @contextlib.contextmanager
    def sabotaged(self, saboteur: Saboteur) -> Iterator[None]:
        """With its one line changed, for whatever starts meanwhile."""
        file = self.path / saboteur.file
        sound = file.read_text()
        _write(file, saboteur.change(sound))
        try:
            yield
        finally:
            _write(file, sound)

    async def test(self, nodes: Sequence[str]) -> tuple[int, str]:
        """Run these tests in the copy; pytest's exit code and what it printed. Its servers are its own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:randomly",
                "-p",
                "no:cacheprovider",
                "--tb=short",
                *nodes,
            ),
            cwd=self.path,
            env=inherited | self.environ | {"COLUMNS": "1000"},  # or the reasons of failures are cut off
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            printed, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, printed.decode()


def _write(file: Path, text: str) -> None:
    """Python takes byte code for that of a file by its second and length, which both may be the same."""
    file.write_text(text)
    for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
        compiled.unlink()


def failed(node: str, printed: str) -> bool:
    """Whether this test failed because something was not as it must be: no error of set-up, of syntax, of import."""
    said = re.search(rf"^FAILED {re.escape(node)}(?:\[.*\])? - (.+)$", printed, re.MULTILINE)
    return said is not None and _ASSERTED.match(said[1]) is not None


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """As it is; a module works on one of its own."""
    path = tmp_path_factory.mktemp("product")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, path)
    return Copy(path)
