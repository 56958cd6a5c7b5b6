"""One process of the stack, as data: what to start, how to see that it is ready, how to end it."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launch.py")

Probe = Callable[[], Awaitable[bool]]


async def at_once() -> bool:
    """The probe of a program that needs no waiting for."""
    return True


@dataclass(frozen=True, kw_only=True)
class Program:
    """What the supervisor needs to know of one child.

    ``ready`` is asked again and again until it says yes; it has to bound its own time. ``wrapper`` is put before
    the launcher (``unshare …``), ``user`` is ``uid:gid``. ``death_signal`` is what the kernel sends when the stack
    itself is killed; ``death_means`` is what a person has to know when this one died.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    ready: Probe = at_once
    ready_within_s: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 4.0
    death_signal: signal.Signals = signal.SIGKILL
    wrapper: Sequence[str] = field(default=())
    user: str = "-"
    death_means: str = ""

    def command(self) -> list[str]:
        """The whole command line: wrapper, launcher, program."""
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), str(int(self.death_signal))]
        return [*self.wrapper, *launcher, self.user, *self.argv]
