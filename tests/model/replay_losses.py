"""How a way robs the real Redis of its data, and takes the real recovery through the steps of the model, one by one.

A loss is made of what Redis itself can do: *saves* keeps all keys of the sale as DUMP gives them, *comes back with
less* puts them back, *is emptied* removes them; and its identity (D1) is a new one once it was told to follow another
server and then nobody. Restarts from a file and real replicas are for ``tests/integration/recovery``.

The real recovery asks a real order service, and stands still before each step of the model while others go on:

    begins, claims, takes over   ``claim``; a hold of somebody who died on this very Redis has run out before
    looks, holds on, raises      the three parts of ``raise_epoch``
    reads                        the first part of ``read``: what Postgres decided
    refills                      the rest of it, what Redis has left, and ``refill``: nobody else changes the sale
    installs                     ``install``; after it P3's window is over, and nothing is sent again by itself
    starts again                 ``LostHoldError``
    dies                         its task ends where it stands

``drain`` is not run: it only waits for what a way has in any order. The real one asks more often whether it still has
the sale in hand, so it may give up before the model's does, and never goes on after it. What ``install`` writes the
model has already after *refills*: from there to *installs* only tickets and serials are compared.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Self

import pytest

from admission.records import Ended, Known, Records
from admission.recovery import LostHoldError, Recovery
from fairline.errors import FencedError
from fairline.events import AnyFact
from fairline.runtime.services import cancelled
from tests.model.basis import Step
from tests.model.recovery import Recoveries
from tests.model.replay import LATER_MS, Replay, Servers
from tests.model.world import HALTED, Applied, Change, Order, Scenario, Verdict, World
from tests.support.admission import NOWHERE
from tests.support.orders import record
from tests.support.recovering import show, window_over
from tests.support.sale import SaleDriver

LONGEST_S = 30.0


class Attempt(Records):
    """A real recovery that stands still before each step of the model; ``next`` is its name, empty in the end.

    Most stops are in its questions to Postgres, which it asks through this.
    """

    def __init__(self, records: Records, sale: SaleDriver, known: Known) -> None:
        super().__init__(records._session, records._url)
        self.next = ""
        self.lost_hold = False
        self._recovery = Recovery(sale.redis, self, NOWHERE, known, drain_s=0)
        self._raised = False
        self._stands = asyncio.Event()
        self._may_go = asyncio.Semaphore(0)
        self._task = asyncio.create_task(self._run())

    async def go(self) -> None:
        """Take one step. One that has lost its hold takes none any more."""
        if self.next:
            self._stands.clear()
            self._may_go.release()
        await self.stands()

    async def stands(self) -> None:
        """Wait until it stands still, or has come to its end."""
        async with asyncio.timeout(LONGEST_S):
            await self._stands.wait()
        if not self.next:
            await self._task

    async def die(self) -> None:
        """Where it stands."""
        await cancelled(self._task)

    async def _before(self, step: str) -> None:
        self.next = step
        self._stands.set()
        await self._may_go.acquire()

    async def _run(self) -> None:
        try:
            stops = {self._claim: "claim", self._recovery.install: "install"}
            for step in (self._claim, *self._recovery.steps[1:]):
                if step in stops:
                    await self._before(stops[step])
                await step()
        except LostHoldError:
            self.lost_hold = True
        finally:
            self.next = ""
            self._stands.set()

    async def _claim(self) -> None:
        if not await self._recovery.claim():
            raise LostHoldError

    async def known(self, sale_id: str) -> Known | None:
        if self._raised:
            return await super().known(sale_id)
        await self._before("look")
        known = await super().known(sale_id)
        await self._before("hold")
        return known

    async def raise_epoch(self, sale_id: str, epoch: int) -> int | None:
        await self._before("raise")
        raised = await super().raise_epoch(sale_id, epoch)
        if raised is not None:
            await self._before("read")
        self._raised = True
        return raised

    async def ended(self, sale_id: str) -> AsyncIterator[Ended]:
        async for each in super().ended(sale_id):
            yield each
        await self._before("refill")


class LossyReplay(Replay):
    """A replay whose Redis may lose its data."""

    def __init__(self, scenario: Scenario, sale: SaleDriver, servers: Servers) -> None:
        super().__init__(scenario, sale, servers)
        self.rules = Recoveries(scenario)
        self.instances = dict[int, str]()
        self.attempts = dict[int, Attempt]()  # by the number of its owner in the model
        self.claims: dict[tuple[int, int], bytes | None] = {(0, 0): None}
        self.disk = dict[bytes, bytes]()
        self.disk_is_whole = True
        self.old = dict[Order | Change | None, AnyFact]()

    @classmethod
    async def of(cls, scenario: Scenario, servers: Servers) -> Self:
        replay = await super().of(scenario, servers)
        replay.instances[0] = await replay._instance()
        return replay

    async def end(self) -> None:
        for attempt in self.attempts.values():
            await attempt.die()
        await super().end()

    async def step(self, step: Step) -> None:
        await super().step(step)
        await self.sale.redis.persist(self.sale.keys.recovery)  # a hold runs out in a step of the way alone

    # Redis

    async def _redis_saves(self, world: World) -> None:
        keys = [key async for key in self.sale.raw.scan_iter(f"fairline:{{{self.sale.id}}}:*")]
        self.disk = {key: await self.sale.raw.dump(key) for key in keys}
        self.disk_is_whole = self.whole

    async def _redis_restarts(self, world: World) -> None:
        await self.sale.redis.replicaof("127.0.0.1", 1)
        await self.sale.redis.replicaof("NO", "ONE")
        self.instances[world.instance] = await self._instance()
        assert len(set(self.instances.values())) == len(self.instances)

    async def _redis_forgets_and_nothing_shows_it(self, world: World) -> None:
        await self._redis_has_nothing()
        for key, dumped in self.disk.items():
            await self.sale.redis.restore(key, 0, dumped)
        self.whole = self.disk_is_whole

    async def _redis_comes_back_with_less(self, world: World) -> None:
        self.old |= {self._of(fact): fact for _, fact in await self._outbox()}
        await self._redis_forgets_and_nothing_shows_it(world)
        await self._redis_restarts(world)

    async def _redis_is_emptied(self, world: World) -> None:
        await self._redis_has_nothing()
        await self._redis_restarts(world)

    async def _redis_has_nothing(self) -> None:
        await self.sale.remove()
        self.whole = False

    async def _the_old_primary_relays(self, world: World, fact: Order | Change) -> None:
        self.kafka[fact] = record(self.old[fact])

    async def _instance(self) -> str:
        return str((await self.sale.redis.info("replication"))["master_replid"])

    # Those who find the sale halted, or come back to it

    async def _pass_over(self, world: World, result: Verdict | Applied) -> None:
        with pytest.raises(FencedError):
            await (self._acknowledge(world, result) if isinstance(result, Applied) else self._settle(world, result))

    async def _show(self, world: World, at: int) -> None:
        assert await show(self.sale, self.came[at]) is not None

    # Recovery

    async def _recovery_begins(self, world: World, number: int) -> None:
        [owner] = {each.claim[0] for each in world.recoveries if each} - self.attempts.keys()
        known = await self.records.known(self.sale.id)
        assert known is not None
        self.attempts[owner] = Attempt(self.records, self.sale, known)
        await self.attempts[owner].stands()

    async def _recovery_claims(self, world: World, number: int) -> None:
        if self.before.redis.claim[1] == self.before.instance:
            await self.sale.redis.delete(self.sale.keys.recovery)
        await self._recovery_goes_on(world, number)
        self.claims[world.redis.claim] = await self.sale.raw.get(self.sale.keys.recovery)

    _recovery_takes_over = _recovery_claims

    async def _recovery_goes_on(self, world: World, number: int) -> None:
        await self.attempts[self._owner(number)].go()

    _recovery_looks = _recovery_holds_on = _recovery_raises_the_epoch = _recovery_reads = _recovery_goes_on

    async def _recovery_refills(self, world: World, number: int) -> None:
        await self._recovery_goes_on(world, number)
        self.whole = False

    async def _recovery_installs(self, world: World, number: int) -> None:
        attempt = self.attempts.pop(self._owner(number))
        await attempt.go()
        assert (attempt.next, attempt.lost_hold) == ("", False)
        self.whole = True
        await window_over(self.sale)
        reserved = dict(await self.sale.raw.zrange(self.sale.keys.reserved, 0, -1, withscores=True))
        assert set(reserved.values()) <= {0.0}, "they are due (O3)"
        for ticket_id in reserved:
            await self.sale.redis.zadd(self.sale.keys.reserved, {ticket_id: LATER_MS})

    async def _recovery_starts_again(self, world: World, number: int) -> None:
        attempt = self.attempts.pop(self._owner(number))
        await attempt.go()
        assert attempt.lost_hold

    async def _recovery_dies(self, world: World, number: int) -> None:
        await self.attempts.pop(self._owner(number)).die()

    def _owner(self, number: int) -> int:
        recovery = self.before.recoveries[number]
        assert recovery is not None
        return recovery.claim[0]

    async def compare(self, world: World) -> None:
        """Also whether the sale is halted, who has it in hand, and where each recovery stands."""
        await super().compare(world)
        fence = await self.sale.raw.hget(self.sale.keys.meta, "fence")
        halted = fence in {None, b"lost", b"halted"}
        assert halted if world.redis.fence == HALTED else fence.decode() == self.instances[world.redis.fence]
        assert await self.sale.raw.get(self.sale.keys.recovery) == self.claims[world.redis.claim]
        under_way = {each.claim[0]: each for each in world.recoveries if each is not None}
        assert self.attempts.keys() == under_way.keys()
        for owner, recovery in under_way.items():
            attempt = self.attempts[owner]
            gave_up = attempt.lost_hold and not self.rules.in_hand(world, recovery)
            assert gave_up or attempt.next == recovery.next
