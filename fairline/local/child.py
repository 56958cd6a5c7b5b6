"""One running child: starts it in a session of its own, with a log; ends it, and whatever it started.

One at a time for a name. A child that was started is always waited for, so that none is left as a zombie.
"""

import asyncio
import contextlib
import io
import os
import shutil
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

from fairline.local.errors import StackError, full_disk, writing
from fairline.local.program import Program

_LOG_BYTES = 20_000_000  # what is longer is put aside, also while its child runs; one older part is kept
_LOG_LOOKED_AT_EVERY_S = 10.0
_LOOK_EVERY_S = 0.03
_LAST_WORDS_BYTES = 4_000


class Child:
    """A process of the stack, from its start to its end."""

    def __init__(self, program: Program, process: asyncio.subprocess.Process, log: Path, offset: int) -> None:
        """``offset`` is where its own part of the log begins."""
        self.program = program
        self.log = log
        self._process = process
        self._started = time.monotonic()
        self._over: float | None = None
        self._offset = offset

    @classmethod
    async def start(cls, program: Program, log: Path) -> "Child":
        """Start the program; its output is added to the log, after a line that says so."""
        with writing(log.parent), _open(log) as output:
            output.write(f"--- {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {program.name} starts\n".encode())
            offset = output.tell()  # before it can have written, and have ended
            process = await asyncio.create_subprocess_exec(
                *program.command(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=program.cwd,
                env=program.env,
                start_new_session=True,
            )
        return cls(program, process, log, offset)

    @property
    def pid(self) -> int:
        """Stays the same after the end."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Negative for a signal, ``None`` while it runs."""
        return self._process.returncode

    def lived_s(self) -> float:
        """From its start to its end; once ``ended`` or ``stop`` came back it does not grow any more."""
        return (self._over or time.monotonic()) - self._started

    async def ended(self) -> int:
        """Wait for the end, keeping its log within bounds, and end what it left behind; the exit code."""
        while self.exit_code is None:
            _put_aside(self.log)
            await self._wait(_LOG_LOOKED_AT_EVERY_S)
        code = await self._process.wait()
        if self._over is None:
            self._over = time.monotonic()
            # Only now, once: later the number may belong to somebody else.
            self.kill()
        return code

    async def until_ready(self) -> None:
        """Wait for a yes of the probe.

        Raises:
            StackError: it ended before, or it took too long.
        """
        deadline = time.monotonic() + self.program.ready_within_s
        while self.exit_code is None:
            if await self.program.ready():
                return
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.program.name} was not ready within {self.program.ready_within_s:.0f} s: "
                    f"look into {self.log}.{self.last_words()}"
                )
            await self._wait(_LOOK_EVERY_S)
        if "No space left on device" in self.last_words():
            raise full_disk(self.log.parent)
        raise StackError(
            f"{self.program.name} ended ({self.how_it_ended()}) before it was ready: "
            f"look into {self.log}.{self.last_words()}"
        )

    async def stop(self) -> None:
        """Ask it to end, insist when the time is up; a second call is fine."""
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(self.program.stop_signal)
            await self._wait(self.program.stop_within_s)
            if self.exit_code is None:
                self.kill()
        await self.ended()

    def kill(self) -> None:
        """End it and what is left of its process group, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _wait(self, most_s: float) -> None:
        """For its end, or for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                await self._process.wait()

    def how_it_ended(self) -> str:
        """For people."""
        code = self.exit_code
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"

    def last_words(self) -> str:
        """The last lines it wrote since it was started, indented, or nothing."""
        with self.log.open("rb") as log:
            log.seek(max(self._offset, self.log.stat().st_size - _LAST_WORDS_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        return "".join(f"\n    {line}" for line in lines[-6:] if line.strip())


def _open(log: Path) -> io.FileIO:
    _put_aside(log)
    return log.open("ab", buffering=0)


def _put_aside(log: Path) -> None:
    """Copied and cut, not renamed: a child that runs goes on writing into the same file, at its new end."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > _LOG_BYTES:
            with contextlib.suppress(OSError):  # on a full disk it is cut all the same
                shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
