"""Runs the ``fairline`` command in this process, and keeps what it printed."""

import asyncio
import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from fairline.cli import main


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


async def fairline(*arguments: str) -> Ran:
    """Run a command; its loop is its own, so it runs in a thread. Not for two at a time: they share the output."""
    out, err = io.StringIO(), io.StringIO()

    def run() -> int:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(list(arguments))
            except SystemExit as end:
                return int(end.code or 0)
        return 0

    return Ran(await asyncio.to_thread(run), out.getvalue(), err.getvalue())
