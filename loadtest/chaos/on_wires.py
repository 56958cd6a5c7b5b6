"""Connections: cut, refused, slowed, silent in one direction, and answers that are lost after the work was done."""

from typing import Final

from loadtest.chaos.faults import Fault, Harmless, NotThrownError, Scene
from loadtest.chaos.proxy import DOWN, UP
from loadtest.chaos.world import WIRES, NamedWire

LONGEST_S: Final = 4.0


class _OnWire(Harmless):
    targets = WIRES
    longest_s = LONGEST_S

    async def end(self, scene: Scene, fault: Fault) -> None:
        """As it should be; a round has one fault a wire at a time, or the first that ends ends both."""
        _wire(scene, fault).wire.heal()


class Cut(_OnWire):
    """Every connection is reset, and none is taken until the end."""

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """Cut them."""
        found = _wire(scene, fault)
        found.wire.refused = True
        found.cut()


class Slow(_OnWire):
    """``amount`` seconds for each chunk in each direction."""

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """Slow it down."""
        _wire(scene, fault).wire.slow_s = fault.amount


class Hole(_OnWire):
    """Silent in one direction, up or down, while the other works."""

    targets = tuple(f"{wire} {direction}" for wire in WIRES for direction in (UP, DOWN))

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """Nothing gets through any more."""
        _wire(scene, fault).wire.hole(fault.target.split()[1])


class Lost(_OnWire):
    """The next ``amount`` answers never arrive, and their connections are gone: was it done, or not?"""

    targets = tuple(wire for wire in WIRES if not wire.endswith(">kafka"))

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """Lose them as they come."""
        _wire(scene, fault).wire.to_lose = max(1, round(fault.amount))


class PublishLost(Lost):
    """The same for what Kafka acknowledged: the records are there, and their producer does not know."""

    targets = tuple(wire for wire in WIRES if wire.endswith(">kafka"))


def _wire(scene: Scene, fault: Fault) -> NamedWire:
    try:
        return scene.world.wires[fault.target.split()[0]]
    except KeyError:
        raise NotThrownError(f"there is no wire {fault.target}") from None
