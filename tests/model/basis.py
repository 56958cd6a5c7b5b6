"""What every part of the system stands on: the scenario, the rules left out, the faults that may still strike."""

from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from tests.model.postgres import Decisions
from tests.model.scripts import Scripts
from tests.model.world import HALTED, Order, Scenario, Verdict, World

LOSSES = ("lose", "silent", "empty")


class Step(NamedTuple):
    """One step: who does what to which ticket. ``fair`` ones happen by themselves; the others may never happen."""

    name: str
    args: tuple[Any, ...]
    fair: bool
    world: World


class Basis:
    """One scenario, but for the rules that it is ``without``."""

    def __init__(self, scenario: Scenario, without: AbstractSet[str] = frozenset()) -> None:
        self.scenario = scenario
        self.without = without
        self.scripts = Scripts(scenario, without)
        self.decisions = Decisions(scenario, without)
        self.faults = {name: at for at, (name, _) in enumerate(scenario.faults)}
        self._losing = [at for name, at in self.faults.items() if name in LOSSES]
        self.skus = range(len(scenario.stocks))

    def up(self, world: World) -> bool:
        """Whether scripts answer (D1)."""
        fence = world.redis.fence
        return fence == world.instance or ("D1" in self.without and fence != HALTED)

    def may(self, world: World, fault: str) -> bool:
        """Whether this fault may strike once more."""
        at = self.faults.get(fault)
        return at is not None and world.left[at] > 0

    def losses(self, world: World) -> int:
        """How often Redis lost data so far."""
        return sum(self.scenario.faults[at][1] - world.left[at] for at in self._losing)

    def deceived(self, world: World) -> bool:
        """Whether Redis lost data in a way that no fence shows."""
        at = self.faults.get("silent")
        return at is not None and world.left[at] < self.scenario.faults[at][1]

    def after(self, world: World, fault: str) -> World:
        """The same world, with that fault spent."""
        at = self.faults[fault]
        return world._replace(left=(*world.left[:at], world.left[at] - 1, *world.left[at + 1 :]))

    def logged(self, world: World, fact: Order | Verdict) -> World:
        """What a group that is set back would read again; forgotten where none can be."""
        return world._replace(log=world.log | {fact}) if self.may(world, "rewind") else world
