"""Wall clocks that jump, forwards or back, in one service (``FAIRLINE_CLOCK_SHIFT``)."""

from typing import Final

from loadtest.chaos.faults import Fault, Harmless, Scene
from loadtest.chaos.world import SERVICES

LONGEST_S: Final = 6.0


class Jump(Harmless):
    """By ``amount`` seconds, until the end."""

    targets = SERVICES
    longest_s = LONGEST_S

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """The service reads it at its next look at the clock."""
        scene.world.clock_file(fault.target).write_text(f"{round(fault.amount * 1000)}\n")

    async def end(self, scene: Scene, fault: Fault) -> None:
        """Jumps back."""
        scene.world.clock_file(fault.target).unlink(missing_ok=True)
