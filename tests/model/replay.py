"""A way of the model taken by the real thing: the real scripts on a real Redis, the real writer on a real Postgres.

Between them stands what the model says of Kafka: a fact that it relays is taken out of the real outbox and kept, and
given to the real writer when the model's writer takes it. Time is moved by moving deadlines. After each step both are
compared: tickets, units, lines, outbox, verdicts; and what Redis counts with what its tickets say.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from admission.settler import verdict_of
from fairline.events import AnyFact, OrderConfirmed, OrderFailed, OrderPlaced, SaleApplied, SaleChanged, from_outbox
from fairline.ids import readmission_of, ticket_id_for
from fairline.states import State
from fairline.store.room import ARRIVALS_AN_EPOCH
from order_service.handling import Done, Outcome
from tests.model.basis import Step
from tests.model.world import Applied, Change, Order, Scenario, Ticket, Verdict, World
from tests.support.orders import Desk, record
from tests.support.sale import SaleDriver
from tests.support.sale_facts import Snapshot

LATER_MS = 2**42
VERSIONS = 1  # a real sale has had one more change when it opens
# Steps of a process that only the process and Kafka know of.
ELSEWHERE = frozenset(
    {
        *("controller dies", "give up", "writer dies", "send the dead letter", "publish", "commit the offset"),
        *("Kafka loses the order", "Kafka loses the result", "Kafka gives again"),
        "Kafka loses the change",
    }
)


class Replay:
    """One sale on real servers."""

    def __init__(self, scenario: Scenario, sale: SaleDriver, desk: Desk) -> None:
        self.scenario = scenario
        self.sale = sale
        self.desk = desk
        self.ids = [
            ticket_id_for(sale.id, sale.skus[wish.sku], f"buyer-{wish.buyer}", f"wish-{at}")
            for at, wish in enumerate(scenario.wishes)
        ]
        for at, wish in enumerate(scenario.wishes):
            if wish.readmits is not None:
                self.ids[at] = readmission_of(sale.id, self.ids[wish.readmits])
        self.leases: dict[tuple[int, int], str] = {}
        self.kafka: dict[Order | Change, AnyFact] = {}
        self.results: dict[Verdict | Applied, AnyFact] = {}

    @classmethod
    async def of(cls, scenario: Scenario, redis: Redis, desk: Desk) -> "Replay":
        """An open sale that Postgres knows."""
        stocks = {f"sku-{at}": stock for at, stock in enumerate(scenario.stocks)}
        sale = SaleDriver(
            redis,
            stocks,
            per_buyer_limit=scenario.limit,
            capacity=scenario.capacity,
            when_sold_out="keep_line" if scenario.keep_line else "close_line",
        )
        assert await sale.create() == "CREATED"
        await sale.acknowledge()
        assert (await sale.change("open")).word == "CHANGED"
        await sale.acknowledge()
        await desk.sales.write([record(fact) for fact in await sale.relay()])
        return cls(scenario, sale, desk)

    async def step(self, step: Step) -> None:
        """Do the same, and look whether it did the same."""
        if step.name not in ELSEWHERE:
            do: Callable[..., Awaitable[None]] = getattr(self, "_" + step.name.replace(",", "").replace(" ", "_"))
            await do(step.world, *step.args)
        await self._forget_other_facts()
        await self.compare(step.world)

    # People

    async def _join(self, world: World, at: int) -> None:
        wish = self.scenario.wishes[at]
        word, ticket = await self.sale.ask(
            f"buyer-{wish.buyer}", sku=self.sale.skus[wish.sku], quantity=wish.quantity, key=f"wish-{at}"
        )
        assert (word, ticket and ticket.ticket_id) == ("JOINED", self.ids[at])

    async def _readmit(self, world: World, of: int, at: int) -> None:
        assert await self.sale.room.readmit(self.sale.id, self.ids[of]) == "READMITTED"

    async def _leave(self, world: World, at: int) -> None:
        word, _ = await self.sale.room.leave(self.sale.id, self.ids[at], self.sale.skus[self.scenario.wishes[at].sku])
        assert word == "LEFT"

    async def _pause(self, world: World) -> None:
        assert (await self.sale.change("pause")).word == "CHANGED"

    async def _resume(self, world: World) -> None:
        assert (await self.sale.change("resume")).word == "CHANGED"

    async def _end(self, world: World) -> None:
        assert (await self.sale.change("end")).word == "CHANGED"

    async def _stock(self, world: World, sku: int, stock: int) -> None:
        reply = await self.sale.set_stock(stock, version=world.redis.items[sku].version, sku=self.sale.skus[sku])
        assert reply.word == "CHANGED"

    # admission

    async def _admit(self, world: World, at: int) -> None:
        lease, grant = await self.sale.admit(1)
        ticket = _there(world, at)
        if ticket.state is State.ADMITTED:
            self.leases[at, ticket.lease] = lease
        assert grant.ids == ([self.ids[at]] if ticket.state is State.ADMITTED else [])

    async def _reserve(self, world: World, at: int, lease: int) -> None:
        [word] = await self.sale.reserve(self.leases[at, lease], self.ids[at], redrive_ms=LATER_MS)
        ticket = _there(world, at)
        mine = ticket.state is State.RESERVED and ticket.lease == lease
        declined = ticket.state is State.DECLINED
        assert word == ("RESERVED" if mine else "DECLINED" if declined else "STALE")

    async def _decline(self, world: World, at: int, lease: int) -> None:
        [word] = await self.sale.decline(self.leases[at, lease], self.ids[at])
        assert word == ("DECLINED" if _there(world, at).state is State.DECLINED else "STALE")

    async def _give_back(self, world: World, at: int, lease: int) -> None:
        assert await self.sale.give_back(self.leases[at, lease], self.ids[at]) == ["WAITING"]

    _reserve_the_reply_is_lost = _reserve
    _decline_the_reply_is_lost = _decline

    async def _lease_ends(self, world: World, at: int) -> None:
        await self.sale.end_leases(self.ids[at])
        lapsed = _there(world, at).state is State.LAPSED
        assert await self.sale.reap(max_tries=self.scenario.max_tries) == (not lapsed, lapsed)

    async def _sweep(self, world: World, *_: int) -> None:
        assert await self.sale.sweep(1) > 0

    async def _close(self, world: World) -> None:
        word, _ = await self.sale.close(1)
        assert word == ("CLOSED" if world.redis.state == "closed" else "ENDED")

    async def _redrive(self, world: World, at: int) -> None:
        await self.sale.redis.zadd(self.sale.keys.reserved, {self.ids[at]: 0}, xx=True)
        assert await self.sale.redrive(redrive_ms=LATER_MS, longest_ms=LATER_MS) == (1, 0)

    async def _redrive_the_change(self, world: World) -> None:
        assert await self.sale.redrive(redrive_ms=0, longest_ms=LATER_MS) == (0, 1)

    async def _relay(self, world: World, fact: Order | Change) -> None:
        for entry, found in await self._outbox():
            if self._of(found) == fact:
                self.kafka[fact] = found
                await self.sale.redis.xdel(self.sale.keys.outbox, entry)

    async def _relay_the_answer_is_lost(self, world: World, fact: Order | Change) -> None:
        [self.kafka[fact], *_] = [found for _, found in await self._outbox() if self._of(found) == fact]

    async def _settle(self, world: World, verdict: Verdict) -> None:
        told = verdict_of(self.results[verdict])
        assert told is not None
        assert (await self.sale.stock.settle([told])).word == "DONE"

    async def _acknowledge(self, world: World, applied: Applied) -> None:
        await self.sale.acknowledge(applied.version + VERSIONS, epoch=applied.epoch)

    # order_service

    async def _take_over(self, world: World, change: Change) -> None:
        [outcome] = await self.desk.sales.write([record(self.kafka[change])])
        [fact] = _facts(outcome)
        assert isinstance(fact, SaleApplied)
        known = world.postgres
        assert (fact.version - VERSIONS, fact.epoch) == (known.version, known.epoch)
        self.results[Applied(known.version, known.epoch)] = fact

    async def _write(self, world: World, number: int, order: Order) -> None:
        [outcome] = await self.desk.orders.write([record(self.kafka[order])])
        self._decided(world, order, outcome)

    _write_then_die = _write

    async def _give_up_for_good(self, world: World, number: int, order: Order) -> None:
        self._decided(world, order, await self.desk.orders.give_up(record(self.kafka[order])))

    def _decided(self, world: World, order: Order, outcome: Outcome) -> None:
        verdict = world.postgres.verdicts[order.ticket]
        assert verdict is not None
        [fact] = _facts(outcome)
        assert isinstance(fact, OrderConfirmed | OrderFailed)
        reason = fact.reason if isinstance(fact, OrderFailed) else ""
        assert Verdict(self.ids.index(fact.ticket_id), fact.units, fact.slots, reason) == verdict
        self.results[verdict] = fact

    # What there is

    async def _outbox(self) -> list[tuple[bytes, AnyFact]]:
        return [(at, from_outbox(fields[b"fact"])) for at, fields in await self.sale.raw.xrange(self.sale.keys.outbox)]

    def _of(self, fact: AnyFact) -> Order | Change | None:
        """The model's name of a fact."""
        if isinstance(fact, OrderPlaced):
            return Order(self.ids.index(fact.ticket_id), fact.units, fact.slots, fact.epoch)
        if isinstance(fact, SaleChanged):
            items = tuple((item.stock, item.high, frozenset(item.withdrawn), item.version) for item in fact.items)
            return Change(fact.version - VERSIONS, fact.epoch, fact.state, items)
        return None

    async def _forget_other_facts(self) -> None:
        """How tickets ended and what was counted is history, which the model does not keep."""
        for entry, fact in await self._outbox():
            if self._of(fact) is None:
                await self.sale.redis.xdel(self.sale.keys.outbox, entry)

    async def compare(self, world: World) -> None:
        """Both are the same."""
        seen, redis = await Snapshot.of(self.sale), world.redis
        assert seen.faults() == []
        state, version, acked, epoch = (seen.meta[name] for name in ("state", "version", "acked", "epoch"))
        assert (state, int(version) - VERSIONS, int(acked) - VERSIONS) == (redis.state, redis.version, redis.acked)
        assert int(epoch) == redis.epoch
        assert seen.tickets.keys() == {self.ids[at] for at, ticket in enumerate(redis.tickets) if ticket is not None}
        for at, ticket in enumerate(redis.tickets):
            if ticket is not None:
                there = seen.tickets[self.ids[at]]
                assert (there.state, there.tries, there.back, there.units, there.slots, there.lease) == (
                    *(ticket.state, ticket.tries, ticket.back, ticket.units, ticket.slots),
                    self.leases[at, ticket.lease] if ticket.lease else "",
                )
                assert divmod(there.arrival, ARRIVALS_AN_EPOCH) == ticket.arrival
        for sku, item in zip(self.sale.skus, redis.items, strict=True):
            numbers = tuple(seen.items[f"{sku}:{name}"] for name in ("stock", "high", "target", "version", "next"))
            assert numbers == (item.stock, item.high, item.target, item.version, item.first)
            assert seen.returned[sku] == set(item.returned)
            assert seen.withdrawn[sku] == set(item.withdrawn)
        assert {self._of(fact) for _, fact in await self._outbox()} == redis.outbox
        for at, verdict in enumerate(world.postgres.verdicts):
            said = None if verdict is None else verdict.reason or "confirmed"
            assert await self.desk.verdict(self.ids[at]) == said


def _there(world: World, at: int) -> Ticket:
    ticket = world.redis.tickets[at]
    assert ticket is not None
    return ticket


def _facts(outcome: Outcome) -> tuple[Any, ...]:
    assert isinstance(outcome, Done), outcome
    return outcome.facts
