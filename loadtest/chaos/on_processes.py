"""Signals: a process that is killed, frozen and woken, or asked to end. The stack starts it again."""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

from loadtest.chaos.faults import Fault, Harmless, NotThrownError, Scene
from loadtest.chaos.world import PROCESSES
from loadtest.history import LostWrites

COMES_BACK_WITHIN_S: Final = 3.0
LONGEST_FREEZE_S: Final = 4.0  # longer than a lease and than a session with Kafka


class Signal(Harmless):
    """SIGKILL or SIGTERM. With ``appendfsync everysec`` a Redis that ended may have lost its last writes."""

    targets = PROCESSES

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """Send it."""
        number = self._number
        if number is signal.SIGTERM:  # Postgres waits for its clients on that one, for ever
            number = scene.world.stack.supervisor.program(fault.target).stop_signal
        deadline = time.monotonic() + COMES_BACK_WITHIN_S
        while True:  # it may have died just now of another fault
            try:
                return os.kill(_there(scene, fault.target), number)
            except ProcessLookupError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)

    def lost(self, fault: Fault) -> LostWrites:
        """What is not on the disk."""
        return "some" if fault.target == "redis" else "none"


class Freeze(Harmless):
    """SIGSTOP, later SIGCONT, to the process and its children: Postgres works in those."""

    targets = PROCESSES
    longest_s = LONGEST_FREEZE_S

    def __init__(self) -> None:
        self._frozen: dict[Fault, list[int]] = {}

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """Stop it, whatever it is doing."""
        frozen = self._frozen[fault] = family(_there(scene, fault.target))
        _send(signal.SIGSTOP, frozen)

    async def end(self, scene: Scene, fault: Fault) -> None:  # noqa: ARG002 - those that were frozen
        """It goes on as if nothing had been. The children of one that was killed meanwhile have to wake up to end."""
        _send(signal.SIGCONT, self._frozen.pop(fault, []))


def _send(number: signal.Signals, pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def family(pid: int) -> list[int]:
    """A process and its children, also those in sessions of their own."""
    with contextlib.suppress(OSError):
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return [pid]


def _there(scene: Scene, name: str) -> int:
    pid = scene.world.pid(name)
    if pid is None:
        raise NotThrownError(f"{name} is down already")
    return pid
