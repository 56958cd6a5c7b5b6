"""Operators at work while everything breaks. What they do is lawful, so it is no fault; it comes at random like one."""

from typing import Final

from loadtest.chaos.faults import Fault, Harmless, NotThrownError, Scene

ACTS_WITHIN_S: Final = 6.0
SLOWEST_PER_S, FASTEST_PER_S = 15.0, 60.0
LONGEST_PAUSE_S: Final = 3.0


class Act(Harmless):
    """One act; ``amount`` from 0 to 1 says how much. A pause is followed by a resume."""

    targets = ("rate", "capacity", "raise", "lower", "pause", "end")
    longest_s = LONGEST_PAUSE_S

    async def begin(self, scene: Scene, fault: Fault) -> None:
        """Ask for it, and again while there is no answer."""
        operators = scene.operators
        if operators.ended:
            raise NotThrownError("the sale has ended")
        match fault.target:
            case "rate":
                rate = SLOWEST_PER_S + fault.amount * (FASTEST_PER_S - SLOWEST_PER_S)
                await operators.change(rate_per_s=round(rate, 1), within_s=ACTS_WITHIN_S)
            case "capacity":
                await operators.change(capacity=3 + round(fault.amount * 20), within_s=ACTS_WITHIN_S)
            case "raise" | "lower":
                sku = scene.sale.items[int(fault.amount * 1000) % len(scene.sale.items)].sku
                by = 1 + round(fault.amount * 4)
                stock = operators.stock[sku] + (by if fault.target == "raise" else -by)
                await operators.set_stock(sku, max(0, stock), within_s=ACTS_WITHIN_S)
            case "pause":
                await operators.move("pause", within_s=ACTS_WITHIN_S)
            case _:
                await operators.move("end", within_s=ACTS_WITHIN_S)

    async def end(self, scene: Scene, fault: Fault) -> None:
        """A sale that may be paused is resumed, unless it was ended."""
        if fault.target == "pause" and not scene.operators.ended:
            await scene.operators.move("resume", within_s=ACTS_WITHIN_S)
