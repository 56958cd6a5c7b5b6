"""Every step that can be taken from an instant of the world: by buyers, processes, the operator, and by faults.

A step is one atomic thing: a script, a transaction, a publish, a commit of an offset. What a process knows between two
of its steps is in the world too, so a crash between any two of them is a step that forgets it.
"""

from collections.abc import Iterator

from tests.model.admission import Admission
from tests.model.basis import Step
from tests.model.order_service import Writers
from tests.model.people import People
from tests.model.recovery import Recoveries
from tests.model.world import Order, World

# Faults that do not touch an order on its way to Postgres and back.
ELSEWHERE = frozenset({"slow", "leave", "again", "away", "readmit", "reload"})


class System(People, Admission, Writers, Recoveries):
    """All steps of one scenario."""

    def steps(self, world: World) -> Iterator[Step]:
        """All of them. Each has a name and arguments of its own."""
        if not self.without and self._undisturbed(world):
            step = next(self._on_its_way(world), None)
            if step is not None:
                yield step
                return
        if self.up(world):
            yield from self._buyers(world)
            yield from self._operator(world)
            yield from self._controllers(world)
            yield from self._keeper(world)
        else:
            yield from self._recovery(world)
        yield from self._relay(world)
        yield from self._settler(world)
        yield from self._writers(world)
        yield from self._losses(world)

    def _undisturbed(self, world: World) -> bool:
        """Whether nothing may happen any more to an order between Redis and its result.

        Then its steps change nothing for anybody else, nor do others for them, and one order of all these steps stands
        for every other (a partial-order reduction).
        """
        struck = any(
            left and fault not in ELSEWHERE for (fault, _), left in zip(self.scenario.faults, world.left, strict=True)
        )
        return not struck and self.up(world) and not any(world.recoveries) and not world.old

    def _on_its_way(self, world: World) -> Iterator[Step]:
        for number, writing in enumerate(world.writers):
            if writing is not None:
                yield from self._tell(world, number, writing)
        for order in world.orders:
            if not self.scenario.wishes[order.ticket].poison:
                yield from self._decide(world, 0, order)
        if any(isinstance(fact, Order) for fact in world.redis.outbox):
            yield from (step for step in self._relay(world) if isinstance(step.args[0], Order))
