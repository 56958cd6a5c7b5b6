"""Random lives of a sale: after each step Redis holds what a model in plain Python holds, and counts it rightly (C1).

A step is one script. The model and the scripts were written apart; what they agree on is the protocol.
"""

import asyncio
import random
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fairline.ids import ticket_id_for
from fairline.states import Event
from fairline.store.client import connect
from tests.integration.scripts.model import Model
from tests.support.sale import SaleDriver
from tests.support.sale_facts import Snapshot

SKUS = ("chair", "table")
BUYERS = ("ada", "bob", "cy:ra", "dée")
LIMIT = 3


Step = tuple[Any, ...]


def step_of(number: int) -> Step:
    """The step that a number stands for. Numbers, because a list of them is easily made shorter when a life fails."""
    dice = random.Random(number)
    sku, buyer, which = dice.choice(SKUS), dice.choice(BUYERS), dice.randrange(1000)
    several = [dice.randrange(1000) for _ in range(dice.randint(1, 5))]
    steps: list[tuple[int, Step]] = [
        (30, ("join", sku, buyer, (dice.choice((1, 1, 1, 2, 3, 4)), dice.random() < 0.3), dice.randrange(8))),
        (14, ("admit", dice.randint(1, 4))),
        (14, ("reserve", several)),
        (4, ("decline", several)),
        (4, ("give_back", several)),
        (10, ("confirm", which)),
        (3, ("release", which)),
        (2, ("foreign", which)),
        (2, ("leave", which)),
        (2, ("stale", which)),
        (4, ("reap", several, dice.randint(1, 3))),
        (4, ("sweep", dice.randint(1, 2))),
        (6, ("stock", sku, dice.randint(0, 6), dice.choice((-1, 0, 1, 1, 1, 1)))),
        (4, ("acknowledge", dice.choice((0, 0, 0, -1, -2, 1)))),
        (3, ("change", dice.choice(("pause", "resume", "resume")))),
        (2, ("redrive", which)),
        (1, ("close", 3)),
    ]
    weights, choices = zip(*steps, strict=True)
    chosen: Step = dice.choices(choices, weights)[0]
    return chosen


def end_of(number: int) -> Step:
    """A step of a sale that has ended."""
    dice = random.Random(number)
    several = [dice.randrange(1000) for _ in range(5)]
    close, decide = ("close", dice.randint(1, 3)), (dice.choice(("reserve", "decline", "give_back")), several)
    return dice.choice((close, decide, (dice.choice(("confirm", "release")), dice.randrange(1000)), step_of(number)))


_numbers = st.integers(0, 2**62)
LIVES = st.tuples(
    st.tuples(st.integers(1, 6), st.integers(0, 4), st.sampled_from((None, None, 2, 4))),
    st.lists(_numbers, min_size=20, max_size=60),
    st.lists(_numbers, max_size=30),
)


class Life:
    """A driver and a model that are told the same."""

    def __init__(self, sale: SaleDriver, model: Model) -> None:
        self.sale = sale
        self.model = model
        self.leases: Iterator[str] = (f"lease-{n}" for n in count())
        self.served = dict.fromkeys(SKUS, 0)

    def pick(self, which: int) -> str | None:
        """One of the tickets there are."""
        ids = list(self.model.tickets)
        return ids[which % len(ids)] if ids else None

    async def step(self, name: str, *args: Any) -> None:
        told, expected = await getattr(self, name)(*args)
        assert told == expected, (name, args)
        await self.compare()

    async def join(self, sku: str, buyer: str, wish: tuple[int, bool], key: int) -> tuple[Any, Any]:
        quantity, fewer = wish
        key_text = f"key-{key}"
        word, ticket = await self.sale.ask(buyer, sku=sku, quantity=quantity, key=key_text, fewer=fewer)
        ticket_id = ticket_id_for(self.sale.id, sku, buyer, key_text)
        return (word, ticket and ticket.ticket_id), self.model.join(ticket_id, sku, buyer, quantity, fewer=fewer)

    async def leave(self, which: int) -> tuple[Any, Any]:
        if (ticket_id := self.pick(which)) is None:
            return None, None
        word, _ = await self.sale.room.leave(self.sale.id, ticket_id, self.model.tickets[ticket_id].sku)
        return word, self.model.leave(ticket_id)

    async def admit(self, most: int) -> tuple[Any, Any]:
        lease, grant = await self.sale.admit(most, lease=next(self.leases))
        expected = self.model.admit(lease, most)
        if grant.ids:
            assert (await self.sale.admit(most, lease=lease))[1].ids == grant.ids, "L1"
        return (grant.word, grant.ids), expected

    async def _by_lease(self, name: str, which: list[int]) -> tuple[Any, Any]:
        ids = [ticket_id for each in which if (ticket_id := self.pick(each))]
        lease = next((t.lease for each in ids if (t := self.model.tickets[each]).lease), "no-lease")
        told = await getattr(self.sale, name)(lease, *ids, **({"reason": "no"} if name == "decline" else {}))
        return told, [getattr(self.model, name)(lease, ticket_id) for ticket_id in ids]

    async def reserve(self, which: list[int]) -> tuple[Any, Any]:
        return await self._by_lease("reserve", which)

    async def decline(self, which: list[int]) -> tuple[Any, Any]:
        return await self._by_lease("decline", which)

    async def give_back(self, which: list[int]) -> tuple[Any, Any]:
        return await self._by_lease("give_back", which)

    async def stale(self, which: int) -> tuple[Any, Any]:
        """Somebody whose lease is of long ago."""
        if (ticket_id := self.pick(which)) is None:
            return None, None
        return await self.sale.reserve("long-ago", ticket_id), [self.model.reserve("long-ago", ticket_id)]

    async def reap(self, which: list[int], max_tries: int) -> tuple[Any, Any]:
        ended = sorted({ticket_id for each in which if (ticket_id := self.pick(each))})
        if ended:
            await self.sale.end_leases(*ended)
        return await self.sale.reap(max_tries=max_tries), self.model.reap(ended, max_tries)

    async def confirm(self, which: int) -> tuple[Any, Any]:
        """Postgres has the order; of a ticket that is not RESERVED it knows none."""
        ticket = self.model.tickets.get(self.pick(which) or "")
        if ticket is None or (ticket.live and ticket.state != "RESERVED"):
            return None, None
        reply = await self.sale.confirm(ticket.id)
        return reply.count, self.model.settle(ticket.id, Event.CONFIRM, ticket.units, ticket.slots)

    async def foreign(self, which: int) -> tuple[Any, Any]:
        """Postgres has an order of other units than Redis thinks, as where Redis forgot something."""
        ticket = self.model.tickets.get(self.pick(which) or "")
        if ticket is None:
            return None, None
        item = self.model.items[ticket.sku]
        mine = [t for t in self.model.tickets.values() if (t.sku, t.buyer) == (ticket.sku, ticket.buyer)]
        taken = set[int]().union(*(t.slots for t in mine if t is not ticket))
        units = sorted(item.returned | item.fresh, reverse=which % 2 == 0)[: ticket.quantity]
        slots = [slot for slot in range(LIMIT, 0, -1) if slot not in taken][: ticket.quantity]
        if len(units) < ticket.quantity or len(slots) < ticket.quantity:
            return None, None
        reply = await self.sale.confirm_as(ticket.id, units=units, slots=slots)
        return reply.count, self.model.settle(ticket.id, Event.CONFIRM, set(units), set(slots))

    async def release(self, which: int) -> tuple[Any, Any]:
        if (ticket_id := self.pick(which)) is None:
            return None, None
        reply = await self.sale.release(ticket_id)
        return reply.count, self.model.settle(ticket_id, Event.RELEASE, set(), set())

    async def sweep(self, most: int) -> tuple[Any, Any]:
        return await self.sale.sweep(most), self.model.sweep(most)

    async def stock(self, sku: str, stock: int, later: int) -> tuple[Any, Any]:
        version = max(1, self.model.items[sku].version + later)
        reply = await self.sale.set_stock(stock, version=version, sku=sku)
        return reply.word, self.model.set_stock(sku, stock, version)

    async def acknowledge(self, behind: int) -> tuple[Any, Any]:
        version = self.model.version + behind
        return await self.sale.acknowledge(version), self.model.acknowledge(version)

    async def change(self, action: Any) -> tuple[Any, Any]:
        return (await self.sale.change(action)).word, self.model.change(action)

    async def close(self, most: int) -> tuple[Any, Any]:
        await self.sale.acknowledge()
        self.model.acknowledge(self.model.version)
        await self.sale.relay()
        told, expected = await self.sale.close(most), self.model.close(most)
        if expected == ("CLOSED", 0):
            event("closed")
        return told, expected

    async def redrive(self, which: int) -> tuple[Any, Any]:
        if (ticket_id := self.pick(which)) is None:
            return None, None
        reserved = self.model.tickets[ticket_id].state == "RESERVED"
        await self.sale.redis.zadd(self.sale.keys.reserved, {ticket_id: 0}, xx=True)
        return (await self.sale.redrive())[0], int(reserved)

    async def compare(self) -> None:
        """Redis holds what the model holds."""
        seen = await Snapshot.of(self.sale)
        assert seen.faults() == []
        assert {
            name: (
                r.state,
                r.lease,
                r.tries,
                bool(r.back),
                set(r.units),
                set(r.slots),
                r.reason,
                r.number,
                r.quantity,
                r.asked,
            )
            for name, r in seen.tickets.items()
        } == {
            t.id: (t.state, t.lease, t.tries, t.came_back, t.units, t.slots, t.reason, t.number, t.quantity, t.asked)
            for t in self.model.tickets.values()
        }
        assert (seen.meta["state"], int(seen.meta["version"])) == (self.model.state, self.model.version)
        look = await self.sale.look()
        for sku, row in zip(SKUS, look.rows, strict=True):
            item = self.model.items[sku]
            assert row.served >= self.served[sku], "a place never grows"
            self.served[sku] = row.served
            assert (row.stock, row.free, row.outlook) == (item.stock, item.free, self.model.outlook(sku))
            assert seen.returned[sku] == item.returned
            assert seen.withdrawn[sku] == item.withdrawn
            assert [name for name, _ in seen.lines[sku]] == [ticket.id for ticket in self.model.line(sku)]


async def live(redis_url: str, stocks: tuple[int, int, int | None], steps: list[tuple[Any, ...]]) -> None:
    """One life of a sale, step by step."""
    chairs, tables, capacity = stocks
    redis = connect(redis_url, name="fairline-model", timeout_s=10)
    per_sku = dict(zip(SKUS, (chairs, tables), strict=True))
    sale = await SaleDriver.opened(redis, per_sku, per_buyer_limit=LIMIT, capacity=capacity)
    try:
        life = Life(sale, Model(per_sku, limit=LIMIT, capacity=capacity))
        for name, *args in steps:
            await life.step(name, *args)
        for state in {ticket.state for ticket in life.model.tickets.values()}:
            event(f"ended with {state}")
    finally:
        await sale.remove()
        await redis.aclose()


@pytest.mark.timeout(300)
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(life=LIVES)
def test_c1_redis_and_the_model_agree_after_every_step_of_any_life(redis_url: str, life: Any) -> None:
    stocks, numbers, last = life
    steps = [*map(step_of, numbers), ("change", "end"), *map(end_of, last)]
    with asyncio.Runner() as runner:
        runner.run(live(redis_url, stocks, steps))
