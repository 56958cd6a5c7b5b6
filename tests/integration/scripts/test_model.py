"""Any life of a sale: after each step Redis holds what a model in plain Python holds, and counts it rightly (C1).

A step is one script, or the same script twice where a repeat must change nothing. The model and the scripts were
written apart; what they agree on is the protocol. Hypothesis draws the steps, and makes a life that fails as short as
it can.

The lives are the same at every run, and few. More and longer ones, new ones each time:

    pytest tests/integration/scripts/test_model.py --hypothesis-profile=long
"""

import asyncio
from collections.abc import Awaitable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from fairline.events import SaleCounted, TicketsArchived
from fairline.ids import readmission_of, ticket_id_for
from fairline.states import Event
from fairline.store.client import connect
from tests.integration.scripts.model import Model
from tests.support.sale import SaleDriver
from tests.support.sale_facts import Snapshot

SKUS = ("chair", "table")
BUYERS = ("ada", "bob", "cy:ra", "dée", "eve", "fay")
LIMIT = 3
OLD_ENOUGH = 6  # tickets of a sale before it may end: a life that ends early shows little

SHORT = settings(
    max_examples=40,
    stateful_step_count=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings.get_current_profile_name() == "long"  # see conftest

of_skus = st.sampled_from(SKUS)
# Of four keys a buyer, many are used twice.
Wish = tuple[str, str, int, bool, int]
wishes = st.tuples(
    of_skus, st.sampled_from(BUYERS), st.sampled_from((1, 1, 1, 2, 3, 4)), st.booleans(), st.integers(0, 3)
)


class Life(RuleBasedStateMachine):
    """A driver and a model that are told the same. ``tickets`` and ``leases`` are those that there ever were."""

    tickets = Bundle("tickets")
    leases = Bundle("leases")
    some = st.lists(tickets, min_size=1, max_size=5, unique=True)

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._redis_url = redis_url
        self._names: Iterator[str] = (f"lease-{n}" for n in count())
        self._served = dict.fromkeys(SKUS, 0)
        self._redis: Redis | None = None
        self.sale: SaleDriver | None = None

    def _run(self, call: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await call

        return self._runner.run(awaited())

    @initialize(
        target=tickets,
        chairs=st.integers(1, 6),
        tables=st.integers(0, 4),
        capacity=st.sampled_from((None, None, 2, 4)),
        crowd=st.lists(wishes, min_size=3, max_size=12),
    )
    def opened(self, chairs: int, tables: int, capacity: int | None, crowd: list[Wish]) -> Any:
        """A sale that Postgres knows, and its first buyers."""

        async def opened() -> SaleDriver:
            self._redis = connect(self._redis_url, name="fairline-model", timeout_s=10)
            return await SaleDriver.opened(self._redis, stocks, per_buyer_limit=LIMIT, capacity=capacity)

        stocks = dict(zip(SKUS, (chairs, tables), strict=True))
        self.sale = self._run(opened())
        self.model = Model(stocks, limit=LIMIT, capacity=capacity)
        return self._joined(crowd)

    def teardown(self) -> None:
        """Leave nothing in Redis."""

        async def removed() -> None:
            if self.sale is not None:
                await self.sale.remove()
            if self._redis is not None:
                await self._redis.aclose()

        for state in {ticket.state for ticket in self.model.tickets.values()} if self.sale else ():
            event(f"ended with {state}")
        self._run(removed())
        self._runner.close()

    @property
    def _sale(self) -> SaleDriver:
        assert self.sale is not None
        return self.sale

    def _there(self, ticket_ids: list[str]) -> list[str]:
        return [ticket_id for ticket_id in ticket_ids if ticket_id in self.model.tickets]

    @rule(
        target=tickets,
        what=st.sampled_from(("leave", "redrive", "confirm", "confirm_another", "release", "readmit", "readmit")),
        ticket_id=tickets,
    )
    def one(self, what: str, ticket_id: str) -> Any:
        """What may happen to one ticket, in whatever state it is. One rule, because none of it is frequent."""
        event(what)
        return getattr(self, f"_{what}")(ticket_id) or multiple()

    # What buyers do

    @rule(target=tickets, crowd=st.lists(wishes, min_size=1, max_size=4))
    def join(self, crowd: list[Wish]) -> Any:
        """New, or again."""
        return self._joined(crowd)

    def _joined(self, crowd: list[Wish]) -> Any:
        new = []
        for sku, buyer, quantity, fewer, key in crowd:
            asked = self._sale.ask(buyer, sku=sku, quantity=quantity, fewer=fewer, key=f"key-{key}")
            word, ticket = self._run(asked)
            ticket_id = ticket_id_for(self._sale.id, sku, buyer, f"key-{key}")
            expected = self.model.join(ticket_id, sku, buyer, quantity, fewer=fewer)
            assert (word, ticket and ticket.ticket_id) == expected
            event(f"join {word}")
            new += [ticket_id] * (word == "JOINED")
        return multiple(*new)

    def _leave(self, ticket_id: str) -> None:
        """Twice at once: the second changes nothing."""
        ticket = self.model.tickets.get(ticket_id)
        expected = self.model.leave(ticket_id) if ticket else "UNKNOWN"
        for _ in range(2):
            word, _ = self._run(self._sale.room.leave(self._sale.id, ticket_id, ticket.sku if ticket else SKUS[0]))
            assert word == expected

    # What admission does

    @rule(target=leases, most=st.integers(1, 4))
    def admit(self, most: int) -> Any:
        """Under a new lease, and once more under the same (L1)."""
        name = next(self._names)
        lease, grant = self._run(self._sale.admit(most, lease=name))
        assert (grant.word, grant.ids) == self.model.admit(lease, most)
        if not grant.ids:
            return multiple()
        assert self._run(self._sale.admit(most, lease=lease))[1].ids == grant.ids, "L1"
        assert [each.quantity for each in grant.tickets] == [self.model.tickets[each].quantity for each in grant.ids]
        return lease

    @rule(most=st.integers(1, 4))
    def sell(self, most: int) -> None:
        """Admit, and reserve at once: the shop says yes to all."""
        name = next(self._names)
        lease, grant = self._run(self._sale.admit(most, lease=name))
        assert (grant.word, grant.ids) == self.model.admit(lease, most)
        self._decide("reserve", lease, grant.ids)

    @rule(how=st.sampled_from(("reserve", "reserve", "reserve", "decline", "give_back")), lease=leases, ticket_ids=some)
    def decide(self, how: str, lease: str, ticket_ids: list[str]) -> None:
        """Under any lease there ever was: most are stale (L2)."""
        self._decide(how, lease, self._there(ticket_ids))

    @rule(how=st.sampled_from(("reserve", "reserve", "reserve", "decline", "give_back")), lease=leases)
    def decide_all(self, how: str, lease: str) -> None:
        """All that are still under a lease."""
        self._decide(how, lease, [each.id for each in self.model.tickets.values() if each.lease == lease])

    def _decide(self, how: str, lease: str, ticket_ids: list[str]) -> None:
        words = {"reason": "no"} if how == "decline" else {}
        told = self._run(getattr(self._sale, how)(lease, *ticket_ids, **words))
        assert told == [getattr(self.model, how)(lease, ticket_id) for ticket_id in ticket_ids]
        if how == "reserve":
            again = self._run(self._sale.reserve(lease, *ticket_ids))
            assert again == [self.model.reserve(lease, ticket_id) for ticket_id in ticket_ids]

    @rule(ticket_ids=some, max_tries=st.integers(1, 3))
    def reap(self, ticket_ids: list[str], max_tries: int) -> None:
        """The leases of these have ended, as far as they have one."""
        ended = sorted(self._there(ticket_ids))
        if ended:
            self._run(self._sale.end_leases(*ended))
        assert self._run(self._sale.reap(max_tries=max_tries)) == self.model.reap(ended, max_tries)

    @rule(most=st.integers(1, 2))
    def sweep(self, most: int) -> None:
        """Both skus."""
        assert self._run(self._sale.sweep(most)) == self.model.sweep(most)

    def _redrive(self, ticket_id: str) -> None:
        """Nothing was heard of this one; an order goes again, anything else does not."""
        ticket = self.model.tickets.get(ticket_id)
        self._run(self._sale.redis.zadd(self._sale.keys.reserved, {ticket_id: 0}, xx=True))
        orders, _ = self._run(self._sale.redrive())
        assert orders == int(ticket is not None and ticket.state == "RESERVED")

    # What Postgres says

    def _confirm(self, ticket_id: str) -> None:
        """Postgres has the order; of a ticket that is not RESERVED it knows none. The verdict comes twice."""
        ticket = self.model.tickets.get(ticket_id)
        if ticket is None or (ticket.live and ticket.state != "RESERVED"):
            return
        settled = self._run(self._sale.confirm(ticket.id)).count
        assert settled == self.model.settle(ticket.id, Event.CONFIRM, ticket.units, ticket.slots)
        assert self._run(self._sale.confirm(ticket.id)).count == 0

    @rule()
    def confirm_all(self) -> None:
        """The writer has caught up."""
        for ticket in self.model.of_any("RESERVED"):
            self._confirm(ticket.id)

    def _confirm_another(self, ticket_id: str) -> None:
        """Postgres has an order of other units than Redis thinks, as where Redis forgot something."""
        ticket = self.model.tickets.get(ticket_id)
        if ticket is None:
            return
        item = self.model.items[ticket.sku]
        mine = [t for t in self.model.tickets.values() if (t.sku, t.buyer) == (ticket.sku, ticket.buyer)]
        taken = set[int]().union(*(t.slots for t in mine if t is not ticket))
        units = sorted(item.returned | item.fresh, reverse=True)[: ticket.quantity]
        slots = [slot for slot in range(LIMIT, 0, -1) if slot not in taken][: ticket.quantity]
        if len(units) < ticket.quantity or len(slots) < ticket.quantity:
            return
        settled = self._run(self._sale.confirm_as(ticket.id, units=units, slots=slots)).count
        assert settled == self.model.settle(ticket.id, Event.CONFIRM, set(units), set(slots))

    def _release(self, ticket_id: str) -> None:
        """Postgres refused the order for good."""
        if ticket_id in self.model.tickets:
            settled = self._run(self._sale.release(ticket_id)).count
            assert settled == self.model.settle(ticket_id, Event.RELEASE, set(), set())

    @rule(behind=st.sampled_from((0, 0, 0, -1, -2, 1)))
    def acknowledge(self, behind: int) -> None:
        """Postgres knows the sale up to about now; never more than there is."""
        version = self.model.version + behind
        assert self._run(self._sale.acknowledge(version)) == self.model.acknowledge(version)

    # What operators do

    @rule(sku=of_skus, stock=st.integers(0, 6), later=st.sampled_from((-1, 0, 1, 1, 1)))
    def set_stock(self, sku: str, stock: int, later: int) -> None:
        """Absolute, with a version (U3); the same again is the same."""
        version = max(1, self.model.items[sku].version + later)
        expected = self.model.set_stock(sku, stock, version)
        assert self._run(self._sale.set_stock(stock, version=version, sku=sku)).word == expected
        if expected == "CHANGED":
            assert self._run(self._sale.set_stock(stock, version=version, sku=sku)).word == "SAME"

    @rule(action=st.sampled_from(("pause", "resume", "resume")))
    def pause(self, action: Any) -> None:
        """Or go on."""
        assert self._run(self._sale.change(action)).word == self.model.change(action)

    def _readmit(self, was: str) -> Any:
        """S2: whoever's order failed gets the place again, once."""
        new = readmission_of(self._sale.id, was)
        expected = self.model.readmit(was, new) if was in self.model.tickets else "UNKNOWN"
        assert self._run(self._sale.room.readmit(self._sale.id, was)) == expected
        event(f"readmit {expected}")
        return new if expected == "READMITTED" else None

    @rule()
    def count(self) -> None:
        """What is told of the counts is what they are; and a sale is made once."""
        assert self._run(self._sale.create()) == "EXISTS"

        async def told() -> None:
            await self._sale.relay()
            word = await self._sale.stock.count(every_ms=0, outbox_limit=1_000)
            facts = await self._sale.relay()
            found = await self._sale.raw.hgetall(self._sale.keys.counts)
            counts = {name.decode(): int(number) for name, number in found.items()}
            assert [fact.counts for fact in facts if isinstance(fact, SaleCounted)] == [counts] * (word == "POSTED")

        self._run(told())

    # The end of it

    @precondition(lambda self: self.sale is not None and len(self.model.tickets) >= OLD_ENOUGH)
    @rule(most=st.integers(1, 4))
    def end(self, most: int) -> None:
        """For good; and one round of closing, when Kafka and Postgres have everything."""
        assert self._run(self._sale.change("end")).word == self.model.change("end")
        self._close(most)

    @precondition(lambda self: self.sale is not None and self.model.state == "ended")
    @rule(most=st.integers(1, 4))
    def close(self, most: int) -> None:
        """Until nobody is under way any more."""
        for ticket in self.model.of_any("ADMITTED"):
            self._decide("give_back", ticket.lease, [ticket.id])
        for ticket in self.model.of_any("RESERVED"):
            self._confirm(ticket.id)
        while not self._close(most):
            self._run(self._compare())

    def _close(self, most: int) -> bool:
        async def closed() -> Any:
            await self._sale.acknowledge()
            await self._sale.relay()
            return await self._sale.close(most)

        self.model.acknowledge(self.model.version)
        expected = self.model.close(most)
        assert self._run(closed()) == expected
        return expected[0] == "CLOSED"

    @precondition(lambda self: self.sale is not None and self.model.state == "closed" and not self.model.archived)
    @rule(most=st.integers(1, 5))
    def archive(self, most: int) -> None:
        """C2: every ticket is told as it ended, before it is forgotten; then only counters are left."""
        ends = {each.id: (each.state, each.sku, each.buyer, each.quantity) for each in self.model.tickets.values()}
        assert self._run(self._archived(most)) == ends
        self.model.tickets.clear()
        self.model.archived = True
        event("archived")

    async def _archived(self, most: int) -> dict[str, Any]:
        told: dict[str, Any] = {}
        await self._sale.relay()
        for batch in count():
            if await self._sale.archive(f"batch-{batch}", most=most) == "ARCHIVED":
                return told
            [fact] = await self._sale.relay()
            if isinstance(fact, TicketsArchived):
                told |= {end.ticket_id: (end.outcome, end.sku, end.buyer_id, end.quantity) for end in fact.tickets}
                assert await self._sale.stock.unlink(fact.batch) == len(fact.tickets)
            else:
                await self._sale.acknowledge()
                self.model.version = self.model.acked = self.model.version + 1
        raise AssertionError("never")

    # What holds after each step

    @invariant()
    def redis_holds_what_the_model_holds(self) -> None:
        """Records, units, lines, counts."""
        if self.sale is not None:
            self._run(self._compare())

    async def _compare(self) -> None:
        seen = await Snapshot.of(self._sale)
        assert seen.faults() == []
        assert {
            name: (r.state, r.lease, r.tries, bool(r.back), set(r.units), set(r.slots), r.reason, r.number)
            for name, r in seen.tickets.items()
        } == {
            t.id: (t.state, t.lease, t.tries, t.came_back, t.units, t.slots, t.reason, t.number)
            for t in self.model.tickets.values()
        }
        wishes = {name: (record.quantity, record.asked) for name, record in seen.tickets.items()}
        assert wishes == {ticket.id: (ticket.quantity, ticket.asked) for ticket in self.model.tickets.values()}
        assert (seen.meta["state"], int(seen.meta["version"])) == (self.model.state, self.model.version)
        look = await self._sale.look()
        for sku, row in zip(SKUS, look.rows, strict=True):
            item = self.model.items[sku]
            assert row.served >= self._served[sku], "a place never grows"
            self._served[sku] = row.served
            assert (row.stock, row.free, row.outlook) == (item.stock, item.free, self.model.outlook(sku))
            if not self.model.archived:
                assert seen.returned[sku] == item.returned
                assert seen.withdrawn[sku] == item.withdrawn
            assert [name for name, _ in seen.lines[sku]] == [ticket.id for ticket in self.model.line(sku)]


@pytest.mark.timeout(0 if LONG else 300)
def test_c1_redis_and_the_model_agree_after_every_step_of_any_life(redis_url: str) -> None:
    chosen = settings() if LONG else SHORT
    run_state_machine_as_test(lambda: Life(redis_url), settings=chosen)  # type: ignore[arg-type]  # a factory does
