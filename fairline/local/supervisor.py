"""Keeps the children running: starts them, restarts one that dies, holds one down, stops all.

Owns every child and one keeper task for each. One per stack. Lifecycle: ``start`` each program, ``hold`` and
``release`` as asked, ``stop`` at the end, which may be called at any time and again. What must never happen:
two children of one name at once, a child that nobody waits for, a restart after ``stop`` began.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fairline.local.child import Child
from fairline.local.errors import StackError
from fairline.local.program import Program
from fairline.runtime.services import cancelled

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
# A life of this long makes up for one death. Something that is killed now and then comes back at once;
# something that cannot stay up is tried less and less often.
_FORGIVEN_AFTER_S = 3.0


def pause_s(deaths: int) -> float:
    """How long to wait before the next start, after so many deaths in a row: 0.2 s doubling up to 10 s."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(deaths - 1, 16))


class Supervisor:
    """The children of one stack, by name."""

    def __init__(
        self,
        logs: Path,
        *,
        say: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
        order: Sequence[str] = (),
    ) -> None:
        """``say`` gets the lines for people, ``changed`` is called whenever a process id is another.

        ``order`` is that of ``names``; without it they come in the order of their start.
        """
        self._order = order
        self._logs = logs
        self._say = say
        self._changed = changed
        self._programs: dict[str, Program] = {}
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._held: set[str] = set()

    @property
    def names(self) -> list[str]:
        """Every program that was started."""
        return [name for name in self._order if name in self._programs] + [
            name for name in self._programs if name not in self._order
        ]

    def program(self, name: str) -> Program:
        """What was started under this name."""
        return self._programs[name]

    def pid(self, name: str) -> int | None:
        """The process id, or ``None`` while it is held down."""
        child = self._children.get(name)
        return None if child is None or name in self._held else child.pid

    def state(self, name: str) -> str:
        """For people: ``running``, ``held down``, or how it ended."""
        if name in self._held:
            return "held down"
        child = self._children[name]
        return "running" if child.exit_code is None else f"ended ({child.how_it_ended()}), starts again"

    async def start(self, program: Program) -> None:
        """Start a program, wait until it is ready, and keep it running from then on.

        Raises:
            StackError: it ended before, or it took too long; it is stopped then.
        """
        self._programs[program.name] = program
        child = await self._spawn(program)
        try:
            await child.until_ready()
        except BaseException:
            await child.stop()
            raise
        self._keep(program.name)

    async def hold(self, name: str) -> None:
        """Stop one and keep it down; a second call is fine."""
        self._check(name)
        self._held.add(name)
        await self._end(name)
        self._changed()

    async def release(self, name: str) -> None:
        """Bring back one that is held down and wait until it is ready; nothing to do when it is not."""
        self._check(name)
        if name not in self._held:
            return
        self._held.discard(name)
        try:
            await self.start(self._programs[name])
        except StackError:
            self._held.add(name)
            raise

    async def stop(self, names: Iterable[str]) -> None:
        """End these at the same time, for good."""
        async with asyncio.TaskGroup() as group:
            for name in list(names):
                group.create_task(self._end(name), name=f"stop {name}")

    def kill(self) -> None:
        """End all without asking; ``stop`` still has to be awaited."""
        for keeper in self._keepers.values():
            keeper.cancel()
        for child in self._children.values():
            if child.exit_code is None:
                child.kill()

    def exit_code(self, name: str) -> int | None:
        """How the last process of this name ended."""
        child = self._children.get(name)
        return None if child is None else child.exit_code

    async def _end(self, name: str) -> None:
        keeper = self._keepers.pop(name, None)
        if keeper is not None:
            await cancelled(keeper)
        child = self._children.get(name)
        if child is not None:
            await child.stop()

    async def _spawn(self, program: Program) -> Child:
        child = await Child.start(program, self._logs / f"{program.name}.log")
        self._children[program.name] = child
        self._changed()
        return child

    def _keep(self, name: str) -> None:
        self._keepers[name] = asyncio.create_task(self._keeper(name), name=f"keep {name}")

    async def _keeper(self, name: str) -> None:
        deaths = 0
        while True:
            child = self._children[name]
            await child.ended()
            deaths = max(0, deaths - int(child.lived_s() / _FORGIVEN_AFTER_S)) + 1
            again = f", {deaths} times in a row" if deaths > 1 else ""
            reason = f"{name} died ({child.how_it_ended()}{again})"
            while self._children[name] is child:
                self._say(
                    f"{reason}; starting it again in {pause_s(deaths):.1f} s, on the same port"
                    f"{self._programs[name].death_means}"
                )
                await asyncio.sleep(pause_s(deaths))
                try:
                    await self._spawn(self._programs[name])
                except (StackError, OSError) as error:
                    reason = f"{name} could not be started: {error}"
                    deaths += 1

    def _check(self, name: str) -> None:
        if name not in self._programs:
            raise StackError(f"There is no {name} in this stack: the names are {', '.join(self.names)}.")
