"""The way into a running stack: a Unix socket in its data folder, one JSON line each way.

``{"do": "stop", "name": "gateway"}`` is answered with ``{"ok": true, "say": "…"}``. One request at a time, so
that two people cannot stop and start the same process at once. The folder is its owner's alone, and so is the
socket.
"""

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairline.local.errors import StackError

NAME = "control.sock"
_LONGEST_PATH = 100  # the kernel takes 107 bytes on Linux, 103 elsewhere
_LONGEST_LINE_BYTES = 10_000
Answer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Control:
    """Listens while the stack runs."""

    def __init__(self, folder: Path, answer: Answer) -> None:
        """``answer`` may raise a ``StackError``, whose sentence is passed on."""
        self._folder = folder
        self._answer = answer
        self._one_at_a_time = asyncio.Lock()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Take the place of a socket that a crash left."""
        (self._folder / NAME).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        with _short(self._folder) as path:
            listener.bind(path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=_LONGEST_LINE_BYTES)

    async def stop(self) -> None:
        """Take nothing new; a second call is fine."""
        if self._server is not None:
            self._server.close()
            self._server = None
            (self._folder / NAME).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            async with self._one_at_a_time:
                answer = {"ok": True, **await self._answer(request)}
        except StackError as error:
            answer = {"ok": False, "say": str(error)}
        except ValueError:
            answer = {"ok": False, "say": "That was not a request."}
        writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()


def ask(folder: Path, request: dict[str, Any], *, within_s: float) -> dict[str, Any]:
    """Ask the stack of a folder; its answer.

    Raises:
        StackError: nothing runs there, it does not answer, or it says no.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(within_s)
        try:
            with _short(folder) as path:
                connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = connection.makefile("rb").readline()
        except TimeoutError:
            raise StackError(f"The stack in {folder} did not answer within {within_s:.0f} s.") from None
        except OSError:
            raise StackError(f"No stack runs in {folder}: start one with fairline up.") from None
    answer: dict[str, Any] = json.loads(line) if line else {"ok": False, "say": "The stack is stopping."}
    if not answer["ok"]:
        raise StackError(str(answer["say"]))
    return answer


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The path of the socket, by way of a temporary link when the folder is too deep for the kernel."""
    path = str(folder / NAME)
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    # Not where TMPDIR says, which may be as deep as the folder.
    with tempfile.TemporaryDirectory(prefix="fl-", dir="/tmp") as shortcut:
        link = Path(shortcut) / "f"
        link.symlink_to(folder, target_is_directory=True)
        yield str(link / NAME)
