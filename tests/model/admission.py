"""What admission does: its controllers, keepers, relays and settlers, any number of each."""

from collections.abc import Iterator

from fairline.states import State
from tests.model.basis import Basis, Step
from tests.model.scripts import CLOSED, put
from tests.model.world import Applied, Change, Order, Redis, Ticket, Verdict, World


class Admission(Basis):
    """A controller is known by the leases in its hands; the others know nothing between two steps."""

    def _controllers(self, world: World) -> Iterator[Step]:
        redis, scripts = world.redis, self.scripts
        lease = self._new_lease(world)
        then = scripts.admit(redis, lease)
        if then is not redis:
            at, ticket = next((n, t) for n, t in enumerate(then.tickets) if t is not None and t is not redis.tickets[n])
            deciding = world.deciding | {(at, ticket.lease)} if ticket.state is State.ADMITTED else world.deciding
            yield Step("admit", (at,), True, world._replace(redis=then, deciding=deciding))
        for hand in sorted(world.deciding):
            at, held = hand
            wish = self.scenario.wishes[at]
            done = world._replace(deciding=world.deciding - {hand})
            if wish.mute:
                yield Step("give up", hand, True, done)  # L4: before the lease ends
            else:
                said = [("reserve", scripts.reserve(redis, at, held))]
                if wish.may_decline:
                    said.append(("decline", scripts.decline(redis, at, held)))
                for name, then in said:
                    yield Step(name, hand, True, done._replace(redis=then))
                    if self.may(world, "again") and then is not redis:
                        told = self.after(world._replace(redis=then), "again")
                        yield Step(f"{name}, the reply is lost", hand, False, told)
            if self.may(world, "away") and self._valid(redis, hand):
                then = scripts.give_back(redis, at, held)
                yield Step("give back", hand, False, self.after(done._replace(redis=then), "away"))
            if self.may(world, "crash"):
                yield Step("controller dies", hand, False, self.after(done, "crash"))

    def _valid(self, redis: Redis, hand: tuple[int, int]) -> bool:
        ticket = redis.tickets[hand[0]]
        return ticket is not None and ticket.state is State.ADMITTED and ticket.lease == hand[1]

    def _new_lease(self, world: World) -> int:
        """L1: one that nobody has, nor will have after a loss. Only equality counts, so the smallest will do."""
        used = {lease for _, lease in world.deciding}
        for redis in (world.redis, world.disk):
            used |= {t.lease for t in redis.tickets if t is not None} if redis else set()
        return next(n for n in range(1, len(used) + 2) if n not in used)

    def _keeper(self, world: World) -> Iterator[Step]:
        redis, scripts = world.redis, self.scripts
        for at, ticket in enumerate(redis.tickets):
            if ticket is not None and ticket.state is State.ADMITTED:
                orphan = (at, ticket.lease) not in world.deciding
                if orphan or self.may(world, "slow"):
                    ended = world._replace(redis=scripts.reap(redis, at))
                    yield Step("lease ends", (at,), orphan, ended if orphan else self.after(ended, "slow"))
            elif ticket is not None and ticket.state is State.RESERVED and self.may(world, "clock"):
                yield from self._out_of_time(self.after(world, "clock"), at, ticket)
        if (then := scripts.sweep(redis)) is not redis:
            yield Step("sweep", (), True, world._replace(redis=then))
        if (then := scripts.close(redis)) is not redis:
            yield Step("close", (), True, world._replace(redis=then))
        if self._served(redis):
            yield from self._redrive(world)

    def _out_of_time(self, world: World, at: int, ticket: Ticket) -> Iterator[Step]:
        """What a clock may do to an order only without the rules that forbid it."""
        if "V8" in self.without:
            verdict = Verdict(at, ticket.units, ticket.slots, "timeout")
            settled = world._replace(redis=self.scripts.settle(world.redis, verdict))
            yield Step("released by the clock", (at,), False, settled)
        if "C2" in self.without:
            yield Step("expires", (at,), False, world._replace(redis=put(world.redis, at, None)))

    def _redrive(self, world: World) -> Iterator[Step]:
        redis, scripts = world.redis, self.scripts
        for at, ticket in enumerate(redis.tickets):
            if ticket is not None and ticket.state is State.RESERVED and "O3" not in self.without:
                under_way = self._under_way(world, at)
                then = scripts.redrive(redis, at)
                if then is not redis and (not under_way or self.may(world, "early")):
                    after = world._replace(redis=then)
                    yield Step("redrive", (at,), not under_way, after if not under_way else self.after(after, "early"))
        if (
            redis.acked < redis.version
            and not any(isinstance(fact, Change) and fact.version == redis.version for fact in redis.outbox)
            and not any(change.version == redis.version for change in world.changes)
            and not any(isinstance(result, Applied) for result in world.results)
        ):
            yield Step("redrive the change", (), True, world._replace(redis=scripts.redrive_change(redis)))

    def _under_way(self, world: World, at: int) -> bool:
        """Whether this ticket's order or its verdict is still somewhere on its way."""
        return (
            any(isinstance(fact, Order) and fact.ticket == at for fact in world.redis.outbox)
            or any(order.ticket == at for order in world.orders)
            or any(isinstance(result, Verdict) and result.ticket == at for result in world.results)
            or any(writing is not None and writing.order.ticket == at for writing in world.writers)
        )

    def _served(self, redis: Redis) -> bool:
        """O4: from its registration until it is closed."""
        return redis.state != CLOSED and not (redis.state == "ended" and "O4" in self.without)

    def _relay(self, world: World) -> Iterator[Step]:
        if self._served(world.redis):
            for fact in world.redis.outbox:
                left = world.redis.outbox - {fact}
                if "O1" in self.without:  # XTRIM up to the acknowledged entry
                    left = frozenset()
                sent = self._sent(world, fact)
                yield Step("relay", (fact,), True, sent._replace(redis=world.redis._replace(outbox=left)))
                if self.may(world, "twice"):
                    yield Step("relay, the answer is lost", (fact,), False, self.after(sent, "twice"))
        for fact in world.old:
            gone = world._replace(old=world.old - {fact})
            yield Step("the old primary relays", (fact,), True, self._sent(gone, fact))
            yield Step("the old primary dies with", (fact,), True, gone)

    def _sent(self, world: World, fact: Order | Change) -> World:
        if isinstance(fact, Change):
            return world._replace(changes=world.changes | {fact})
        return world._replace(orders=world.orders | {fact})

    def _settler(self, world: World) -> Iterator[Step]:
        served = self._served(world.redis) or "O4" not in self.without
        for result in world.results if served else ():
            done = world._replace(results=world.results - {result})
            if not self.up(world):
                yield Step("pass over", (result,), True, done)  # what it says is read again by recovery
            elif isinstance(result, Applied):
                yield Step(
                    "acknowledge", (result,), True, done._replace(redis=self.scripts.applied(world.redis, result))
                )
            else:
                then = self.scripts.settle(world.redis, result)
                yield Step("settle", (result,), True, self.logged(done._replace(redis=then), result))
            if isinstance(result, Verdict) and self.may(world, "lose result"):
                yield Step("Kafka loses the result", (result,), False, self.after(done, "lose result"))
        for fact in world.log if self.may(world, "rewind") else ():
            again = self.after(world, "rewind")
            if isinstance(fact, Order):
                yield Step("Kafka gives again", (fact,), False, again._replace(orders=world.orders | {fact}))
            else:
                yield Step("Kafka gives again", (fact,), False, again._replace(results=world.results | {fact}))
