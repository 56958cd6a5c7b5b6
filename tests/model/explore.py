"""Breadth first through every world that a scenario can reach: a counterexample is a shortest one."""

from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from tests.model.basis import Step
from tests.model.invariants import at_rest, never_rests, watch
from tests.model.system import System
from tests.model.world import Scenario, World, start


@dataclass(frozen=True)
class Found:
    """What an exploration found. ``fault`` is empty where everything holds; ``whole`` unless ``most`` cut it short."""

    states: int
    whole: bool
    first: World
    fault: str = ""
    trace: list[Step] = field(default_factory=list)
    kinds: frozenset[str] = frozenset()  # of steps


def explore(scenario: Scenario, without: AbstractSet[str] = frozenset(), most: int = 10**9) -> Found:
    """Every reachable world, up to ``most``; nothing is found where none of them breaks anything.

    In the end every world must be able to come to rest by itself: without another fault, act or newcomer.
    """
    return _Exploration(System(scenario, without)).run(most)


class _Exploration:
    """A world is known by a 64-bit hash and the number of the one before it: a trace is found by walking again."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.first = start(system.scenario)
        self.numbers = {hash(self.first): 0}
        self.origins: list[tuple[int, str, tuple[object, ...]]] = [(0, "", ())]
        self.back: list[list[int]] = [[]]  # of each world, those that come to it by themselves
        self.resting: list[int] = []
        self.todo = deque([(0, self.first)])
        self.kinds = set[str]()

    def run(self, most: int) -> Found:
        while self.todo:
            at, world = self.todo.popleft()
            if found := self._from(at, world):
                return found
            if len(self.origins) > most:
                return Found(len(self.origins), False, self.first)
        return self._healing()

    def _from(self, at: int, world: World) -> Found | None:
        rests = True
        for step in self.system.steps(world):
            then = watch(self.system, world, step)
            self.kinds.add(step.name)
            key = hash(then)
            number = self.numbers.get(key)
            if number is None:
                number = self.numbers[key] = len(self.origins)
                self.origins.append((at, step.name, step.args))
                self.back.append([])
                if then.fault:
                    return self._broken(then.fault, number)
                self.todo.append((number, then))
            if step.fair:
                rests = False
                self.back[number].append(at)
        if rests:
            self.resting.append(at)
            if fault := at_rest(self.system, world):
                return self._broken(fault, at)
        return None

    def _healing(self) -> Found:
        healed = bytearray(len(self.origins))
        while self.resting:
            at = self.resting.pop()
            if not healed[at]:
                healed[at] = 1
                self.resting += self.back[at]
        if all(healed):
            return Found(len(self.origins), True, self.first, kinds=frozenset(self.kinds))
        stuck = healed.index(0)
        trace = self._trace(stuck)
        return self._broken(never_rests(trace[-1].world if trace else self.first), stuck)

    def _broken(self, fault: str, at: int) -> Found:
        return Found(len(self.origins), True, self.first, fault, self._trace(at))

    def _trace(self, number: int) -> list[Step]:
        way = list[tuple[str, tuple[object, ...]]]()
        while number:
            number, name, args = self.origins[number]
            way.append((name, args))
        return list(walk(self.system, self.first, way[::-1]))


def walk(system: System, world: World, way: list[tuple[str, tuple[object, ...]]]) -> Iterator[Step]:
    """The named steps, one after the other, each with the world after it."""
    for name, args in way:
        step = next(step for step in system.steps(world) if (step.name, step.args) == (name, args))
        world = watch(system, world, step)
        yield step._replace(world=world)
