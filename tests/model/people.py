"""What buyers and operators do."""

from collections.abc import Iterator
from typing import Any

from fairline.states import LIVE, State
from tests.model.basis import Basis, Step
from tests.model.scripts import CLOSED, put, state_of
from tests.model.world import Arrival, Redis, Ticket, World


class People(Basis):
    """Joins, leaves, tokens that are shown again; the operator's acts and readmissions."""

    def _buyers(self, world: World) -> Iterator[Step]:
        redis, scripts = world.redis, self.scripts
        came = dict(world.came)
        for at, wish in enumerate(self.scenario.wishes):
            ticket = redis.tickets[at]
            if at not in came:
                if wish.readmits is not None:
                    yield from self._readmit(world, at, wish.readmits)
                elif at == 0 or wish != self.scenario.wishes[at - 1]._replace(buyer=wish.buyer) or at - 1 in came:
                    then = scripts.join(redis, at)  # of buyers who differ in nothing the first comes first
                    if then is not redis:
                        arrival = then.tickets[at].arrival  # type: ignore[union-attr]
                        yield Step("join", (at,), False, world._replace(redis=then, came=(*world.came, (at, arrival))))
                continue
            if "R2-again" in self.without and ticket is not None and ticket.state not in LIVE:
                then = scripts.join(redis, at)
                if self.may(world, "again") and then is not redis:
                    yield Step("join again", (at,), False, self.after(world._replace(redis=then), "again"))
            if ticket is not None and ticket.state is State.WAITING and self.may(world, "leave"):
                yield Step("leave", (at,), False, self.after(world._replace(redis=scripts.leave(redis, at)), "leave"))
            if (ticket is None and "C2" not in self.without) or (ticket is not None and not ticket.seen):
                yield from self._show(world, at, ticket, came[at])

    def _readmit(self, world: World, at: int, of: int) -> Iterator[Step]:
        """S2: through join, at the old arrival, once."""
        came = dict(world.came)
        verdict = world.postgres.verdicts[of]
        known = any(letter.ticket == of for letter in world.letters) and verdict is not None and verdict.reason
        if not known or not self.may(world, "readmit") or state_of(world.redis, of) is not State.RELEASED:
            return
        then = self.scripts.join(world.redis, at, came[of])
        if then is not world.redis:
            place = [each for each, _ in world.came].index(of) + 1
            after = self.after(world, "readmit")
            line = (*world.came[:place], (at, came[of]), *world.came[place:])
            yield Step("readmit", (of, at), False, after._replace(redis=then, came=line))

    def _show(self, world: World, at: int, ticket: Ticket | None, arrival: tuple[int, int]) -> Iterator[Step]:
        """D4: a buyer comes back with the token of a ticket that Redis lost, or has not seen since."""
        told = world.told[at]
        if told is not None and not self.may(world, "reload"):
            return  # who was told an outcome need not come back
        redis = world.redis
        if ticket is not None:
            then = put(redis, at, ticket._replace(seen=True))
        else:
            if world.postgres.verdicts[at] is not None:
                return  # has its row; reading it is not modelled
            if redis.state == CLOSED or not self._is_lost(redis, arrival):
                return
            other = next(
                (n for n, t in enumerate(redis.tickets) if t and t.state in LIVE and self._same_buyer(n, at)), None
            )
            if other is not None:
                mine = redis.tickets[other]
                assert mine is not None
                if mine.seen and (mine.arrival <= arrival or mine.state is State.RESERVED):
                    return
                arrival = arrival if mine.state is not State.RESERVED else mine.arrival
                then = put(redis, other, mine._replace(arrival=min(mine.arrival, arrival), seen=True))
            else:
                if "D4" in self.without:
                    redis = redis._replace(seq=redis.seq + 1)
                    arrival = (redis.epoch, redis.seq)
                then = put(redis, at, Ticket(State.WAITING, arrival))
        after = world if told is None else self.after(world, "reload")
        told_now = (*world.told[:at], None, *world.told[at + 1 :])
        yield Step("show", (at,), told is None, after._replace(redis=then, told=told_now))

    def _is_lost(self, redis: Redis, arrival: Arrival) -> bool:
        """Only what a rebuilt Redis did not have any more. What it forgot since is not known to be lost."""
        return arrival[0] < redis.epoch and arrival[1] > dict(redis.last).get(arrival[0], 0)

    def _same_buyer(self, one: int, other: int) -> bool:
        return self.scenario.wishes[one][:2] == self.scenario.wishes[other][:2]

    def _operator(self, world: World) -> Iterator[Step]:
        acts, redis = self.scenario.acts, world.redis
        if world.acted < len(acts):
            act = acts[world.acted]
            if (then := self._act(redis, act)) is not redis:
                after = world._replace(redis=then, acted=world.acted + 1)
                yield Step(str(act[0]), act[1:], act[0] == "resume", after)
        if world.acted and self.may(world, "again"):
            act = acts[world.acted - 1]
            if (then := self._act(redis, act)) is not redis and act[0] == "stock":
                yield Step("stock again", act[1:], False, self.after(world._replace(redis=then), "again"))

    def _act(self, redis: Redis, act: tuple[Any, ...]) -> Redis:
        if act[0] == "stock":
            _, sku, stock = act
            return self.scripts.stock(redis, sku, stock, 1 + self.scenario.acts.index(act))
        return self.scripts.change(redis, act[0])
