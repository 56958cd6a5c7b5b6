"""A way of the model taken by the real thing: the real scripts on a real Redis, the real writer on a real Postgres.

Between them stands what the model says of Kafka: a fact that it relays is taken out of the real outbox and kept, and
given to the real writer when the model's writer takes it. Time is moved by moving deadlines. After each step both are
compared: tickets, units, lines, outbox, the sale in Postgres, verdicts; and what Redis counts with what its tickets
say.

Losses of data and the recovery after them are in ``replay_losses``.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Self

from redis.asyncio import Redis

from admission.records import Records
from admission.settler import verdict_of
from fairline.events import AnyFact, OrderConfirmed, OrderFailed, OrderPlaced, SaleApplied, SaleChanged, from_outbox
from fairline.ids import readmission_of, ticket_id_for
from fairline.states import State
from fairline.store.scripts import TicketRecord
from fairline.store.tickets import ARRIVALS_AN_EPOCH, UNSEEN
from fairline.store.tickets import Ticket as BuyersTicket
from fairline.stream.reader import Record
from order_service.attempts import Attempts
from order_service.handling import Done, Outcome
from tests.model.basis import Step
from tests.model.postgres import ATTEMPTS
from tests.model.world import HALTED, IN_ITS_ROW, Applied, Change, Order, Scenario, Ticket, Verdict, World, start
from tests.model.world import Postgres as SaleInPostgres
from tests.model.world import Redis as SaleInRedis
from tests.support.orders import Desk, record
from tests.support.sale import SaleDriver
from tests.support.sale_facts import Snapshot

LATER_MS = 2**42
VERSIONS = 1  # a real sale has had one more change when it opens
# Steps that are done for real.
REPLAYED = frozenset(
    {
        *("join", "readmit", "leave", "show", "pause", "resume", "end", "stock"),
        *("admit", "reserve", "reserve, the reply is lost", "decline", "decline, the reply is lost", "give back"),
        *("lease ends", "sweep", "close", "redrive", "redrive the change"),
        *("relay", "relay, the answer is lost", "the old primary relays", "settle", "acknowledge", "pass over"),
        *("take over", "write", "write, then die", "fail at", "give up for good"),
        *("Redis saves", "Redis restarts", "Redis comes back with less", "Redis forgets, and nothing shows it"),
        *("Redis is emptied", "recovery begins", "recovery claims", "recovery takes over", "recovery looks"),
        *("recovery holds on", "recovery raises the epoch", "recovery reads", "recovery refills", "recovery installs"),
        *("recovery starts again", "recovery dies"),
    }
)
_KAFKA = "Kafka is what the model says of it"
_MEMORY = "what a process forgets is in the model alone"
# The others, and why nothing is done. Both are compared after them too.
ELSEWHERE = {
    "controller dies": _MEMORY,
    "give up": _MEMORY,
    "writer dies": _MEMORY,
    "send the dead letter": _KAFKA,
    "publish": _KAFKA,
    "commit the offset": _KAFKA,
    "Kafka loses the order": _KAFKA,
    "Kafka loses the result": _KAFKA,
    "Kafka loses the change": _KAFKA,
    "Kafka gives again": _KAFKA,
    "the old primary dies with": "what it had is gone since Redis came back with less",
    "Redis is found behind Postgres": "with all rules it never is; see tests/integration/recovery/test_by_itself",
}


class Servers(NamedTuple):
    """The real ones, and who asks the order service what Postgres knows."""

    redis: Redis
    desk: Desk
    records: Records


class Replay:
    """One sale on real servers."""

    def __init__(self, scenario: Scenario, sale: SaleDriver, servers: Servers) -> None:
        self.scenario = scenario
        self.sale = sale
        self.desk = servers.desk
        self.records = servers.records
        self.before = start(scenario)
        self.whole = True  # not so while the sale is emptied or half rebuilt
        self.came = dict[int, BuyersTicket]()
        self.ids = [
            ticket_id_for(sale.id, sale.skus[wish.sku], f"buyer-{wish.buyer}", f"wish-{at}")
            for at, wish in enumerate(scenario.wishes)
        ]
        for at, wish in enumerate(scenario.wishes):
            if wish.readmits is not None:
                self.ids[at] = readmission_of(sale.id, self.ids[wish.readmits])
        self.leases: dict[tuple[int, int], str] = {}
        self.kafka: dict[Order | Change, Record] = {}
        self.results: dict[Verdict | Applied, AnyFact] = {}

    @classmethod
    async def of(cls, scenario: Scenario, servers: Servers) -> Self:
        """An open sale that Postgres knows."""
        stocks = {f"sku-{at}": stock for at, stock in enumerate(scenario.stocks)}
        sale = SaleDriver(
            servers.redis,
            stocks,
            per_buyer_limit=scenario.limit,
            capacity=scenario.capacity,
            when_sold_out="keep_line" if scenario.keep_line else "close_line",
        )
        assert await sale.create() == "CREATED"
        await sale.acknowledge()
        assert (await sale.change("open")).word == "CHANGED"
        await sale.acknowledge()
        await servers.desk.sales.write([record(fact) for fact in await sale.relay()])
        return cls(scenario, sale, servers)

    async def end(self) -> None:
        """Leave nothing in Redis."""
        await self.sale.remove()

    async def step(self, step: Step) -> None:
        """Do the same, and look whether it did the same."""
        if step.name not in ELSEWHERE:
            do: Callable[..., Awaitable[None]] = getattr(
                self, "_" + step.name.lower().replace(",", "").replace(" ", "_")
            )
            await do(step.world, *step.args)
        await self._forget_other_facts()
        await self.compare(step.world)
        self.before = step.world

    # People

    async def _join(self, world: World, at: int) -> None:
        wish = self.scenario.wishes[at]
        word, ticket = await self.sale.ask(
            f"buyer-{wish.buyer}", sku=self.sale.skus[wish.sku], quantity=wish.quantity, key=f"wish-{at}"
        )
        assert ticket is not None
        assert (word, ticket.ticket_id) == ("JOINED", self.ids[at])
        self.came[at] = ticket

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
        ticket, lease, ids = _there(world, at), "", list[str]()
        for _ in self.ids:  # a call for one ticket comes no further than to the next who has not shown up (D3)
            if (await self.sale.record(self.ids[at])).state == State.WAITING:
                lease, grant = await self.sale.admit(1)
                ids += grant.ids
        if ticket.state is State.ADMITTED:
            self.leases[at, ticket.lease] = lease
        assert ids == ([self.ids[at]] if ticket.state is State.ADMITTED else [])

    async def _reserve(self, world: World, at: int, lease: int) -> None:
        [word] = await self.sale.reserve(self.leases[at, lease], self.ids[at], redrive_ms=LATER_MS)
        ticket = world.redis.tickets[at]
        mine = ticket is not None and ticket.state is State.RESERVED and ticket.lease == lease
        assert word == ("RESERVED" if mine else "DECLINED" if _is_declined(ticket) else "STALE")

    async def _decline(self, world: World, at: int, lease: int) -> None:
        [word] = await self.sale.decline(self.leases[at, lease], self.ids[at])
        assert word == ("DECLINED" if _is_declined(world.redis.tickets[at]) else "STALE")

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
                self.kafka[fact] = record(found)
                await self.sale.redis.xdel(self.sale.keys.outbox, entry)

    async def _relay_the_answer_is_lost(self, world: World, fact: Order | Change) -> None:
        [self.kafka[fact], *_] = [record(found) for _, found in await self._outbox() if self._of(found) == fact]

    async def _settle(self, world: World, verdict: Verdict) -> None:
        told = verdict_of(self.results[verdict])
        assert told is not None
        word = (await self.sale.stock.settle([told])).word
        assert word == ("HALTED" if world.redis.fence == HALTED else "DONE")

    async def _acknowledge(self, world: World, applied: Applied) -> None:
        await self.sale.acknowledge(applied.version + VERSIONS, epoch=applied.epoch)

    # order_service

    async def _take_over(self, world: World, change: Change) -> None:
        [outcome] = await self.desk.sales.write([self.kafka[change]])
        [fact] = _facts(outcome)
        assert isinstance(fact, SaleApplied)
        known = world.postgres
        assert (fact.version - VERSIONS, fact.epoch) == (known.version, known.epoch)
        self.results[Applied(known.version, known.epoch)] = fact

    async def _write(self, world: World, number: int, order: Order) -> None:
        [outcome] = await self.desk.orders.write([self.kafka[order]])
        self._decided(world, order, outcome)

    _write_then_die = _write

    async def _give_up_for_good(self, world: World, number: int, order: Order) -> None:
        self._decided(world, order, await self.desk.orders.give_up(self.kafka[order]))

    async def _fail_at(self, world: World, number: int, order: Order, attempt: int) -> None:
        attempts = Attempts(self.desk.postgres)
        assert await attempts.count(self.kafka[order], "Postgres refuses it", ATTEMPTS) == attempt

    def _decided(self, world: World, order: Order, outcome: Outcome) -> None:
        verdict = world.postgres.verdicts[order.ticket]
        if verdict is None:  # V7
            assert _facts(outcome) == ()
            return
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
        assert seen.tickets.keys() == {self.ids[at] for at, ticket in enumerate(redis.tickets) if ticket is not None}
        for at, ticket in enumerate(redis.tickets):
            if ticket is not None:
                self._compare_ticket(world, at, ticket, seen.tickets[self.ids[at]])
        for sku, item in zip(self.sale.skus, redis.items, strict=True):
            assert seen.returned[sku] == set(item.returned)
            assert seen.withdrawn[sku] == set(item.withdrawn)
        if self.whole:
            self._compare_sale(seen, redis)
        assert {self._of(fact) for _, fact in await self._outbox()} == redis.outbox
        await self._compare_postgres(world.postgres)

    def _compare_ticket(self, world: World, at: int, ticket: Ticket, there: TicketRecord) -> None:
        absent = ticket.state is State.WAITING and not ticket.seen  # of one that ended Redis does not keep it
        lease = self.leases[at, ticket.lease] if ticket.lease else UNSEEN if absent else ""
        assert (there.state, there.tries, there.back, there.units, there.slots, there.lease) == (
            *(ticket.state, ticket.tries, ticket.back, ticket.units, ticket.slots, lease),
        )
        arrival = dict(world.came)[at] if ticket.arrival == IN_ITS_ROW else ticket.arrival
        assert divmod(there.arrival, ARRIVALS_AN_EPOCH) == arrival

    def _compare_sale(self, seen: Snapshot, redis: SaleInRedis) -> None:
        if redis.fence != HALTED:  # U4: the unit that showed the loss is in nobody's hand until the sale is rebuilt
            assert seen.faults() == []
        state, version, acked, epoch = (seen.meta[name] for name in ("state", "version", "acked", "epoch"))
        assert (state, int(version) - VERSIONS, int(acked) - VERSIONS) == (redis.state, redis.version, redis.acked)
        assert int(epoch) == redis.epoch
        last = {name: int(number) for name, number in seen.meta.items() if name.startswith("seq")}
        assert last == {"seq": redis.seq} | {f"seq:{epoch}": number for epoch, number in redis.last}
        for sku, item in zip(self.sale.skus, redis.items, strict=True):
            numbers = tuple(seen.items[f"{sku}:{name}"] for name in ("stock", "high", "target", "version", "next"))
            assert numbers == (item.stock, item.high, item.target, item.version, item.first)

    async def _compare_postgres(self, postgres: SaleInPostgres) -> None:
        known = await self.records.known(self.sale.id)
        assert known is not None
        assert (known.epoch, known.version - VERSIONS) == (postgres.epoch, postgres.version)
        assert self._of(known.sale) == Change(postgres.version, postgres.changed, postgres.state, postgres.items)
        rows = await self.desk.fetch("SELECT ticket_id, verdict, reason FROM orders WHERE sale_id = $1", self.sale.id)
        verdicts = {self.ids[at]: each.reason or "confirmed" for at, each in enumerate(postgres.verdicts) if each}
        assert {str(row["ticket_id"]): row["reason"] or row["verdict"] for row in rows} == verdicts


def _there(world: World, at: int) -> Ticket:
    ticket = world.redis.tickets[at]
    assert ticket is not None
    return ticket


def _facts(outcome: Outcome) -> tuple[Any, ...]:
    assert isinstance(outcome, Done), outcome
    return outcome.facts


def _is_declined(ticket: Ticket | None) -> bool:
    return ticket is not None and ticket.state is State.DECLINED
