"""What the writers of order_service do, and what Kafka may do to them."""

from collections.abc import Iterator

from tests.model.basis import Basis, Step
from tests.model.postgres import ATTEMPTS, take_over, with_verdict
from tests.model.world import Applied, Order, Postgres, Verdict, World, Writing


class Writers(Basis):
    """A writer has one order in its hands between the transaction and the commit of the offset (V5)."""

    def _writers(self, world: World) -> Iterator[Step]:
        if world.changes:
            for change in world.changes:
                known = take_over(world.postgres, change)
                answer = Applied(known.version, known.epoch)
                yield Step(
                    "take over",
                    (change,),
                    True,
                    world._replace(changes=world.changes - {change}, postgres=known, results=world.results | {answer}),
                )
        for change in world.changes if self.may(world, "lose change") else ():
            lost = world._replace(changes=world.changes - {change})
            yield Step("Kafka loses the change", (change,), False, self.after(lost, "lose change"))
        for number, writing in enumerate(world.writers):
            if writing is not None:
                yield from self._tell(world, number, writing)
            elif number == 0 or world.writers[number - 1] is not None:
                for order in world.orders:
                    yield from self._decide(world, number, order)
        for order in world.orders if self.may(world, "lose order") else ():
            lost = world._replace(orders=world.orders - {order})
            yield Step("Kafka loses the order", (order,), False, self.after(lost, "lose order"))
        for letter in world.letters if self.may(world, "replay") and "S2" in self.without else ():
            again = world._replace(orders=world.orders | {letter})
            yield Step("replay the letter as it was", (letter,), False, self.after(again, "replay"))

    def _decide(self, world: World, number: int, order: Order) -> Iterator[Step]:
        if self.scenario.wishes[order.ticket].poison:
            yield from self._attempt(world, number, order)
            return
        if (written := self.decisions.write(world.postgres, order)) is not None:
            yield Step("write", (number, order), True, self._written(world, number, order, *written))
            if self.may(world, "crash") and written[0] != world.postgres:
                died = world._replace(postgres=written[0])
                yield Step("write, then die", (number, order), False, self.after(died, "crash"))
        if self.may(world, "never") and world.postgres.verdicts[order.ticket] is None:
            given = self._written(world, number, order, *self.decisions.give_up(world.postgres, order))
            yield Step("give up for good", (number, order), False, self.after(given, "never"))

    def _attempt(self, world: World, number: int, order: Order) -> Iterator[Step]:
        """V6: Postgres refuses, the failed attempt is counted, and the writer dies over it."""
        at = order.ticket
        counts = world.postgres.attempts
        if world.postgres.verdicts[at] is None and counts[at] + 1 < ATTEMPTS:
            counted = (*counts[:at], counts[at] + 1, *counts[at + 1 :])
            if "V6" in self.without:  # counted in memory, which dies with the writer
                counted = counts
            after = world._replace(postgres=world.postgres._replace(attempts=counted))
            yield Step("fail at", (number, order, counts[at] + 1), True, after)
        else:
            given = self.decisions.give_up(world.postgres, order)
            yield Step("give up for good", (number, order), True, self._written(world, number, order, *given))

    def _written(self, world: World, number: int, order: Order, postgres: Postgres, verdict: Verdict | None) -> World:
        after = "offset"
        if verdict is not None:
            after = "letter" if verdict.reason == "not_writable" else "result"
        then = self._in_hands(world._replace(postgres=postgres), number, Writing(order, after, verdict))
        return then._replace(orders=world.orders - {order}) if "V5" in self.without else then

    def _in_hands(self, world: World, number: int, writing: Writing | None) -> World:
        writers = [*world.writers[:number], writing, *world.writers[number + 1 :]]
        writers.sort(key=lambda each: (each is None, each and each.order, each and each.next, each and each.verdict))
        return world._replace(writers=tuple(writers))

    def _tell(self, world: World, number: int, writing: Writing) -> Iterator[Step]:
        """V5: dead letter, result, offset, in this order."""
        order, verdict = writing.order, writing.verdict
        if writing.next == "letter":
            told = self._in_hands(world, number, writing._replace(next="result"))
            yield Step("send the dead letter", (number, order), True, told._replace(letters=world.letters | {order}))
        elif writing.next == "result":
            assert verdict is not None
            after = "row" if "V4" in self.without and verdict.reason else "offset"
            told = self._in_hands(world, number, writing._replace(next=after))
            yield Step("publish", (number, verdict), True, told._replace(results=world.results | {verdict}))
        elif writing.next == "row":  # only without V4
            assert verdict is not None
            postgres = world.postgres
            if postgres.verdicts[order.ticket] is None:
                postgres = with_verdict(postgres, verdict)
            kept = self._in_hands(world._replace(postgres=postgres), number, writing._replace(next="offset"))
            yield Step("commit the failure", (number, order), True, kept)
        else:
            passed = self._in_hands(world._replace(orders=world.orders - {order}), number, None)
            yield Step("commit the offset", (number, order), True, self.logged(passed, order))
        if self.may(world, "crash"):
            yield Step("writer dies", (number, order), False, self.after(self._in_hands(world, number, None), "crash"))
