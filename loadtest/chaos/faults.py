"""What a fault is and what it may touch; ``throwing`` begins one, ends it, and writes both down.

A fault that could not be thrown (its process was down already, a server did not answer) is not counted. Ending is tried
until it succeeds: a round must not be judged while something is still broken on purpose.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp
import asyncpg
from redis.exceptions import RedisError

from fairline.local.errors import StackError
from fairline.sale import SaleDefinition
from loadtest.chaos.operators import NotDoneError, Operators
from loadtest.chaos.world import World
from loadtest.history import LostWrites
from loadtest.recorder import Recorder

ENDS_WITHIN_S: Final = 25.0
AGAIN_AFTER_S: Final = 0.3


class NotThrownError(Exception):
    """A fault that could not be thrown, and why."""


# What goes wrong when something is broken that is broken already.
IN_THE_WAY: Final = (
    NotThrownError,
    NotDoneError,
    StackError,
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    RedisError,
    aiohttp.ClientError,
)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is broken: ``at_s`` after the opening of the sale, for ``for_s`` (0: it is over at once)."""

    kind: str
    target: str
    at_s: float = 0.0
    for_s: float = 0.0
    amount: float = 0.0

    def __str__(self) -> str:
        lasts = f" {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.kind} {self.target}{lasts}"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a fault may touch in a round."""

    world: World
    sale: SaleDefinition
    operators: Operators
    buyers: tuple[str, ...]


class Kind(Protocol):
    """One way to break something. ``longest_s`` is 0 where a fault is over at once."""

    @property
    def targets(self) -> tuple[str, ...]:
        """What can be broken in this way."""

    @property
    def longest_s(self) -> float:
        """How long such a fault lasts at most."""

    async def prepare(self, scene: Scene, fault: Fault) -> None:
        """What has to be done before, and breaks nothing yet; raises as ``begin``."""

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """Break it, now; raises one of ``IN_THE_WAY`` when that cannot be done."""

    async def end(self, scene: Scene, fault: Fault) -> None:
        """Mend it; a second call, or one without a begin, does no harm. Raises as ``begin``."""

    def lost(self, fault: Fault) -> LostWrites:
        """What Redis may have forgotten."""


class Harmless:
    """What most kinds have in common."""

    longest_s: float = 0.0

    async def prepare(self, scene: Scene, fault: Fault) -> None:
        """Nothing."""

    async def end(self, scene: Scene, fault: Fault) -> None:
        """Over at once."""

    def lost(self, fault: Fault) -> LostWrites:  # noqa: ARG002 - most kinds touch no data of Redis
        """Nothing."""
        return "none"


@dataclass
class Thrown:
    """What was thrown in a run, and what could not be."""

    faults: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)

    def note(self, fault: Fault) -> None:
        """One more."""
        self.faults[fault.kind] += 1
        if fault.kind == "kill":
            self.killed[fault.target] += 1

    def add(self, other: "Thrown") -> None:
        """Those of a round to those of a run."""
        self.faults += other.faults
        self.killed += other.killed
        self.missed += other.missed


async def throwing(
    fault: Fault, kinds: Mapping[str, Kind], scene: Scene, history: Recorder, thrown: Thrown, *, began_s: float
) -> None:
    """Throw one fault when its time comes, and end it when that comes, also when cancelled."""
    kind = kinds[fault.kind]
    await asyncio.sleep(max(0.0, began_s + fault.at_s - time.monotonic()))
    try:
        await kind.prepare(scene, fault)
    except IN_THE_WAY as error:
        thrown.missed.append(f"{fault}: {error}")
        return
    number = history.fault(fault.kind, target=fault.target, lost=kind.lost(fault))
    try:
        try:
            await kind.begin(scene, fault)
            thrown.note(fault)
            await asyncio.sleep(fault.for_s)
        except IN_THE_WAY as error:
            thrown.missed.append(f"{fault}: {error}")
    finally:
        await _ended(kind, scene, fault)
        history.healed(number)


async def _ended(kind: Kind, scene: Scene, fault: Fault) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while True:
        try:
            return await kind.end(scene, fault)
        except IN_THE_WAY:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(AGAIN_AFTER_S)
