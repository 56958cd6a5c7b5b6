"""A Redis that comes back without its last second, or without anything."""

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Final

from fairline.store.client import connect
from loadtest.chaos.faults import Fault, Harmless, NotThrownError, Scene
from loadtest.history import LostWrites

_AOF: Final = "appendonlydir"
_COPY: Final = "breaker-copy"


class Lose(Harmless):
    """``rollback``: an older copy of its files is put back; ``empty``: none; ``flush``: it forgets and goes on."""

    targets = ("rollback", "empty", "flush")

    async def prepare(self, scene: Scene, fault: Fault) -> None:
        """For a rollback, what is written from the copy on is what will be lost: ``amount`` seconds."""
        if fault.target == "rollback":
            home = _home(scene)
            await asyncio.to_thread(_copy, home / _AOF, home / _COPY)
            await asyncio.sleep(fault.amount)

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """It is gone at once: what it would still say while it stops, nobody could tell from what is kept."""
        home, supervisor = _home(scene), scene.world.stack.supervisor
        if fault.target == "flush":
            redis = connect(scene.world.around("redis"), name="breaker")
            try:
                await redis.flushall()
            finally:
                await redis.aclose()
            return
        if (pid := scene.world.pid("redis")) is None:
            raise NotThrownError("redis is down already")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await supervisor.hold("redis")
        if fault.target == "rollback":
            await asyncio.to_thread(_put_back, home / _COPY, home / _AOF)
        else:
            await asyncio.to_thread(shutil.rmtree, home / _AOF)

    async def end(self, scene: Scene, fault: Fault) -> None:
        """It runs again."""
        if fault.target != "flush":
            await scene.world.stack.supervisor.release("redis")

    def lost(self, fault: Fault) -> LostWrites:
        """What is gone."""
        return "some" if fault.target == "rollback" else "all"


def _home(scene: Scene) -> Path:
    return scene.world.folder.path / "redis"


def _copy(files: Path, to: Path) -> None:
    """While Redis writes: it only ever appends, so a copy is what was there at some moment, but for a torn end."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(to)
    shutil.copytree(files, to)


def _put_back(copy: Path, files: Path) -> None:
    shutil.rmtree(files)
    copy.rename(files)
