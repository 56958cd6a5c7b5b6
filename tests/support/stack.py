"""Real servers for tests: ``servers("redis", "postgres", "kafka")`` alone, or ``FullStack`` with everything.

Each has a temporary folder of its own and is gone afterwards. What cannot be had is a skip on a laptop and a
failure where ``CI`` is set.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar, overload

import pytest

from fairline.local import ports
from fairline.local.errors import MissingError, StackError
from fairline.local.folder import DataFolder
from fairline.local.program import LAUNCHER
from fairline.local.servers import Servers
from fairline.local.supervisor import Supervisor

# Of the person who runs the tests, and never of the stacks that they start.
_NOT_PASSED = ("FAIRLINE_REDIS_URL", "FAIRLINE_POSTGRES_DSN", "FAIRLINE_KAFKA", "FAIRLINE_KAFKA_ADVERTISED")
_MISSING = re.compile(r"No (Redis|Postgres|Java|Kafka)|.*run make setup")
_UP_WITHIN_S = 90.0
_DOWN_WITHIN_S = 20.0
# What takes longer hangs, on a slow machine too: nobody waits for it in a test that passes.
PATIENCE_S = 60.0

T = TypeVar("T")


def cannot_be_had(what: str) -> NoReturn:
    """Skip on a laptop, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@dataclass(frozen=True)
class Running:
    """The addresses of the servers asked for (empty for the others), and the means to trouble them."""

    redis_url: str
    postgres_dsn: str
    kafka: str
    folder: Path
    supervisor: Supervisor

    def pid(self, name: str) -> int:
        """The process of ``redis``, ``postgres`` or ``kafka``; killed, it comes back on the same port."""
        pid = self.supervisor.pid(name)
        assert pid is not None, f"{name} is held down"
        return pid

    async def until_ready(self, name: str, *, within_s: float = PATIENCE_S) -> None:
        """Wait until it answers, after it was killed for example."""
        deadline = time.monotonic() + within_s
        while not await self.supervisor.program(name).ready():
            assert time.monotonic() < deadline, f"{name} was not ready within {within_s:.0f} s"
            await asyncio.sleep(0.05)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed in the end, as far as it can be."""
    with tempfile.TemporaryDirectory(prefix="fairline-test-", ignore_cleanup_errors=True) as name:
        yield Path(name) / "data"


@asynccontextmanager
async def servers(*wanted: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """Start these servers in a folder of their own. Usual time: redis 0.1 s, postgres 2 s, kafka 4 s.

    Addresses in the environment of the test run are not used: tests need servers that they may break.
    ``environ`` is added to that environment.
    """
    settings = _settings(environ)
    said: list[str] = []
    with temporary_folder() as path:
        folder = DataFolder(path)
        folder.open()
        supervisor = Supervisor(folder.logs, say=said.append)
        ours = Servers(folder, supervisor, settings, wanted=wanted, say=said.append)
        chosen = ports.choose(ours.port_names, kept_in=folder.ports_file, forced={}, say=said.append)
        try:
            try:
                await ours.start(chosen)
            except MissingError as error:
                cannot_be_had(str(error))
            at = ours.addresses(chosen)
            yield Running(at.redis_url, at.postgres_dsn, at.kafka, path, supervisor)
        finally:
            with contextlib.suppress(StackError):
                await ours.stop(chosen)
            folder.close()


@overload
async def eventually(look: Callable[[], Awaitable[T]], *, within_s: float = PATIENCE_S) -> T: ...
@overload
async def eventually(look: Callable[[], T], *, within_s: float = PATIENCE_S) -> T: ...
async def eventually(look: Callable[[], Any], *, within_s: float = PATIENCE_S) -> Any:
    """What ``look`` gives (or awaits) as soon as that is true; fails with the last thing it gave or raised."""
    deadline = time.monotonic() + within_s
    while True:
        last: object
        try:
            found = look()
            last = found = await found if isinstance(found, Awaitable) else found
            if found:
                return found
        except (OSError, LookupError, ValueError, StopIteration, AssertionError) as error:
            last = error
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:.0f} s; last: {last!r}")
        await asyncio.sleep(0.02)


class FullStack:
    """``fairline up`` in a temporary folder: ``async with FullStack(copies={"admission": 2}) as stack: ...``.

    Runs as a process of its own that dies with the test run. ``environ`` is added to the environment; ``command``
    replaces ``fairline up`` (it gets the folder as ``--data``); a ``folder`` that is given is kept.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        copies: Mapping[str, int] | None = None,
        command: tuple[str, ...] = (sys.executable, "-c", "from fairline.cli import main; main()", "up"),
        folder: Path | None = None,
    ) -> None:
        self._environ = _settings(environ)
        self._options = [part for name, n in (copies or {}).items() for part in ("--copies", f"{name}={n}")]
        self._command = command
        self._temporary = None if folder else temporary_folder()
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    @property
    def folder(self) -> Path:
        """The data folder."""
        assert self._folder is not None, "the stack was not started"
        return self._folder

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The stack's own process, the parent of all others."""
        assert self._process is not None, "the stack was not started"
        return self._process

    @property
    def info(self) -> dict[str, Any]:
        """``stack.json``, read anew."""
        info: dict[str, Any] = json.loads((self.folder / "stack.json").read_text())
        return info

    def pid(self, name: str) -> int:
        """The present process of a server or service: ``redis``, ``gateway``, ``admission-2``."""
        return int(next(process["pid"] for process in self.info["processes"] if process["name"] == name))

    def said(self) -> str:
        """What it printed."""
        return (self.folder.parent / "up.txt").read_text()

    async def cli(self, *arguments: str) -> tuple[int, str]:
        """Run a ``fairline`` command on this stack's folder; its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from fairline.cli import main; main()", *arguments),
            env=self._environ | {"FAIRLINE_DATA": str(self.folder)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        return process.returncode or 0, printed.decode()

    async def start(self) -> None:
        """Start it and wait until it is ready; a failure when it does not come up."""
        if self._folder is None and self._temporary is not None:
            self._folder = self._temporary.__enter__()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "stack.json").unlink(missing_ok=True)  # of a stack that was killed
        with (self.folder.parent / "up.txt").open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(signal.SIGTERM)), "-"),
                *(*self._command, "--data", str(self.folder), *self._options),
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + _UP_WITHIN_S
        while not (self.folder / "stack.json").exists():
            if self._process.returncode is not None or time.monotonic() > deadline:
                await self.stop()
                if _MISSING.match(self.said()):
                    cannot_be_had(self.said())
                pytest.fail(f"the stack did not start: {self.said()}", pytrace=False)
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop it as Ctrl-C would; a second call is fine."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), _DOWN_WITHIN_S)
            except TimeoutError:
                self.process.kill()
        await self.process.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            if self._temporary is not None:
                self._temporary.__exit__(None, None, None)


def _settings(environ: Mapping[str, str] | None) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _NOT_PASSED} | dict(environ or {})
