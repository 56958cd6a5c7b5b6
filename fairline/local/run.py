"""The process of ``fairline up``: holds the folder, starts the stack, listens, and stops all when told to.

Told by SIGINT, SIGTERM, SIGHUP or ``fairline down``; a second Ctrl-C ends the children without asking. Under nohup no
SIGHUP tells it anything.
Whatever happens, the children are gone when ``serve`` comes back.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fairline.local.control import Control
from fairline.local.errors import StackError, writing
from fairline.local.folder import DataFolder
from fairline.local.services import SERVICES, STEPS, Service, Step
from fairline.local.stack import Stack

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a person may choose, and what a test replaces; goes through JSON to a detached process."""

    data: str
    copies: Mapping[str, int] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    services: Sequence[Service] = SERVICES
    steps: Sequence[Step] = STEPS


class Run:
    """One life of a stack in the foreground of a process."""

    def __init__(self, options: Options, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._options = options
        self._environ = environ
        self._show = say
        self._folder = DataFolder(Path(options.data))
        self._told = asyncio.Event()
        self._stack: Stack | None = None

    async def serve(self, ready: Callable[[str], None]) -> None:
        """Run until told to stop; ``ready`` gets the table of addresses once.

        Raises:
            StackError: it could not be started; nothing is left running.
        """
        began = time.monotonic()
        self._folder.open()
        control = Control(self._folder.path, self._answer)
        try:
            self._listen_to_signals()
            self._stack = Stack(
                self._folder,
                environ=self._environ,
                copies=self._options.copies,
                forced_ports=self._options.ports,
                running=self._options.services,
                steps=self._options.steps,
                say=self._say,
            )
            with writing(self._folder.path):
                await control.start()
                try:
                    if await self._unless_told(self._stack.start()):
                        ready(self._table(self._stack, time.monotonic() - began))
                        await self._told.wait()
                finally:
                    await self._stop(self._stack)
        finally:
            await control.stop()
            self._folder.close()

    async def _stop(self, stack: Stack) -> None:
        began = time.monotonic()
        clean = await stack.stop()
        mark = "; Redis was stopped cleanly, the next start keeps its sales" if clean else ""
        self._say(f"stopped after {time.monotonic() - began:.1f} s{mark}")

    async def _unless_told(self, work: Any) -> bool:
        """Do it, but drop it when told to stop; whether it was done."""
        task = asyncio.ensure_future(work)
        told = asyncio.ensure_future(self._told.wait())
        await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            return False
        await task
        return True

    def _listen_to_signals(self) -> None:
        def heard(number: signal.Signals) -> None:
            if number is signal.SIGINT and self._told.is_set() and self._stack is not None:
                self._stack.supervisor.kill()
            self._told.set()

        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup's wish
            loop.add_signal_handler(number, heard, number)

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request:
            case {"do": "down"}:
                self._told.set()
                return {"say": "stopping"}
            case {"do": "status"}:
                return {"ready": self._running().ready, "processes": self._states()}
            case {"do": "stop", "name": str(name)}:
                await self._when_ready().supervisor.hold(name)
                self._say(f"{name} is held down")
                return {"say": f"{name} is held down: bring it back with fairline stack start {name}"}
            case {"do": "start", "name": str(name)}:
                await self._when_ready().supervisor.release(name)
                self._say(f"{name} is up again")
                return {"say": f"{name} is up"}
            case _:
                raise StackError("That is nothing the stack can do: it knows down, status, stop and start.")

    def _running(self) -> Stack:
        if self._stack is None:
            raise StackError("The stack is only just starting: try again in a second.")
        return self._stack

    def _when_ready(self) -> Stack:
        stack = self._running()
        if not stack.ready:
            raise StackError("The stack is starting or stopping: try again when it is ready.")
        return stack

    def _states(self) -> list[dict[str, Any]]:
        supervisor = self._running().supervisor
        return [
            {"name": name, "pid": supervisor.pid(name), "state": supervisor.state(name)} for name in supervisor.names
        ]

    def _table(self, stack: Stack, took_s: float) -> str:
        told = stack.description()
        shown = {
            "gateway": told["gateway_url"],
            "console": told["console_url"],
            "notifier": told["notifier_url"],
            "redis": told["redis_url"],
            "kafka": told["kafka"],
            "postgres": told["postgres_dsn"].rpartition("@")[2],
            "keys": f"{self._folder.stack_file} (operator key, Postgres password)",
            "logs": told["logs"],
        }
        rows = "\n".join(f"  {name:<9} {value}" for name, value in shown.items())
        return f"Fairline is up after {took_s:.1f} s.\n\n{rows}\n"

    def _say(self, line: str) -> None:
        # A terminal that was closed, a pipe whose reader went away: nobody reads any more, and all goes on.
        with contextlib.suppress(OSError):
            self._show(line)
        # A full disk must not stop the stopping.
        with contextlib.suppress(OSError), (self._folder.logs / "stack.log").open("a") as log:
            log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}Z {line}\n")
