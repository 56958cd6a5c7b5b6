"""How Redis loses data, and how a sale is recovered (D2): each step its own, a crash between any two, two at once."""

from collections.abc import Iterator

from tests.model.basis import Basis, Step
from tests.model.world import HALTED, Item, Recovery, Redis, World

# What a step of a recovery is called, the world after it, and what the recovery must do then; nothing: start again.
Taken = tuple[str, World, Recovery | None] | None


class Recoveries(Basis):
    """The steps are those of ``admission/recovery.py``, named alike."""

    def _losses(self, world: World) -> Iterator[Step]:
        if self.may(world, "save"):
            yield Step("Redis saves", (), False, self.after(world._replace(disk=world.redis), "save"))
        up = self.up(world)
        if self.may(world, "restart") and up:
            yield Step("Redis restarts", (), False, self.after(world._replace(instance=world.instance + 1), "restart"))
        if self.may(world, "lose") and world.disk is not None:
            lost = world._replace(redis=world.disk, disk=None, instance=world.instance + 1)
            lost = lost._replace(old=world.old | (world.redis.outbox - world.disk.outbox))
            yield Step("Redis comes back with less", (), False, self.after(lost, "lose"))
        if self.may(world, "silent") and world.disk is not None and up:
            lost = world._replace(redis=world.disk, disk=None)
            yield Step("Redis forgets, and nothing shows it", (), False, self.after(lost, "silent"))
        if self.may(world, "empty") and up:
            items = tuple(Item(0, 0, 0) for _ in self.skus)
            nothing = Redis("", 0, 0, 0, 0, HALTED, (0, 0), False, items, (None,) * len(world.told), frozenset())
            lost = world._replace(redis=nothing, disk=None, instance=world.instance + 1)
            yield Step("Redis is emptied", (), False, self.after(lost, "empty"))
        for number, recovery in enumerate(world.recoveries):
            if recovery is not None and self.may(world, "crash"):
                yield Step("recovery dies", (number,), False, self.after(self._recover(world, number, None), "crash"))
        if up and any(world.recoveries):
            yield from self._recovery(world)
        if up and world.redis.epoch < world.postgres.epoch and "D2-behind" not in self.without:
            halted = world._replace(redis=world.redis._replace(fence=HALTED))
            yield Step("Redis is found behind Postgres", (), True, halted)

    def _recover(self, world: World, number: int, recovery: Recovery | None) -> World:
        recoveries = [*world.recoveries[:number], recovery, *world.recoveries[number + 1 :]]
        recoveries.sort(key=lambda each: (each is None, each and each.claim))
        return world._replace(recoveries=tuple(recoveries))

    def _recovery(self, world: World) -> Iterator[Step]:
        """D2, step by step. Whatever it finds changed, it starts again."""
        for number, recovery in enumerate(world.recoveries):
            if recovery is None:
                if not self.up(world) and (not number or world.recoveries[number - 1] is not None):
                    yield self._begin(world, number)
                continue
            step = getattr(self, f"_{recovery.next}")(world, recovery)
            if step is None:
                yield Step("recovery starts again", (number,), True, self._recover(world, number, None))
            else:
                name, after, then = step
                if name == "recovery takes over" and not self.may(world, "overlap"):
                    continue
                after = self._recover(after, number, then)
                fair = name != "recovery takes over"
                yield Step(name, (number,), fair, after if fair else self.after(after, "overlap"))

    def _begin(self, world: World, number: int) -> Step:
        """One more recovery; a second one at a time is none that must come."""
        used = {each.claim[0] for each in world.recoveries if each} | {world.redis.claim[0]}
        used |= {world.disk.claim[0]} if world.disk else set()
        owner = next(n for n in range(1, 9) if n not in used)
        begun = Recovery("claim", 0, (owner, world.instance))
        return Step("recovery begins", (number,), number == 0, self._recover(world, number, begun))

    def _claim(self, world: World, recovery: Recovery) -> Taken:
        """Take the sale in hand. A hold that was taken on a Redis that is no more holds nothing."""
        if self.up(world) and "D2-halted" not in self.without:
            return None
        held = any(each and each is not recovery and each.claim == world.redis.claim for each in world.recoveries)
        after = "read" if "D2-read" in self.without else "look"
        claim = (recovery.claim[0], world.instance)
        name = "recovery takes over" if held and world.redis.claim[1] == world.instance else "recovery claims"
        claimed = world._replace(redis=world.redis._replace(claim=claim))
        return name, claimed, recovery._replace(next=after, claim=claim)

    def _look(self, world: World, recovery: Recovery) -> Taken:
        after = "raise" if "D2-order" in self.without else "hold"
        return "recovery looks", world, recovery._replace(next=after, epoch=world.postgres.epoch)

    def _hold(self, world: World, recovery: Recovery) -> Taken:
        """Only who still has the sale in hand after it looked may raise: else Redis might run on that epoch."""
        held = self.in_hand(world, recovery)
        return ("recovery holds on", world, recovery._replace(next="raise")) if held else None

    def _raise(self, world: World, recovery: Recovery) -> Taken:
        postgres = world.postgres
        if postgres.epoch != recovery.epoch and "D2-seen" not in self.without:
            return None
        epoch = postgres.epoch + ("D2-epoch" not in self.without)
        after = "refill" if "D2-read" in self.without else "read"
        found = recovery.found and recovery.found._replace(epoch=epoch)  # only where it was read too early
        raised = world._replace(postgres=postgres._replace(epoch=epoch))
        return "recovery raises the epoch", raised, recovery._replace(next=after, epoch=epoch, found=found)

    def _read(self, world: World, recovery: Recovery) -> Taken:
        after = "look" if "D2-read" in self.without else "refill"
        found = world.postgres._replace(
            epoch=max(recovery.epoch, world.postgres.epoch if "D2-read" in self.without else 0)
        )
        return "recovery reads", world, recovery._replace(next=after, found=found)

    def _refill(self, world: World, recovery: Recovery) -> Taken:
        assert recovery.found is not None
        if not self.in_hand(world, recovery):
            return None
        then = self.decisions.refill(world.redis, recovery.found)
        return "recovery refills", world._replace(redis=then), recovery._replace(next="install")

    def _install(self, world: World, recovery: Recovery) -> Taken:
        assert recovery.found is not None
        if not self.in_hand(world, recovery):
            return None
        then = self.decisions.install(world.redis, recovery.found, world.instance)
        return "recovery installs", world._replace(redis=then), None

    def in_hand(self, world: World, recovery: Recovery) -> bool:
        """Whether it still rebuilds this sale, on the Redis where it began."""
        mine = world.redis.claim == recovery.claim and recovery.claim[1] == world.instance
        return (mine or "D2-claim" in self.without) and (not self.up(world) or "D2-halted" in self.without)
