"""Decisions on what Postgres has: the transaction of an order (V1 to V7), and what a lost Redis must be again (D3)."""

from collections.abc import Set as AbstractSet

from fairline.states import LIVE, State
from tests.model.scripts import CLOSED, change_of, posted
from tests.model.world import IN_ITS_ROW, Asked, Change, Item, Order, Postgres, Redis, Scenario, Ticket, Verdict, Wish

ATTEMPTS = 2  # three in reality; two are enough to tell one that is remembered from one that is not


class Decisions:
    """The transactions of order_service for one scenario. Nothing as an answer means *later*."""

    def __init__(self, scenario: Scenario, without: AbstractSet[str]) -> None:
        self.wishes: tuple[Wish, ...] = scenario.wishes
        self.limit = scenario.limit
        self.without = without

    def write(self, postgres: Postgres, order: Order) -> tuple[Postgres, Verdict | None] | None:
        """The verdict that stands after the transaction; none of an order that has no say any more (V7)."""
        stored, wish = postgres.verdicts[order.ticket], self.wishes[order.ticket]
        if stored is not None:
            return postgres, self._again(order, stored)
        if order.epoch < postgres.epoch and "V7" not in self.without:
            return postgres, None
        _, high, withdrawn, _ = postgres.items[wish.sku]
        unknown = any(unit > high for unit in order.units)
        if order.epoch > postgres.epoch or (unknown and "V6-later" not in self.without):
            return None
        taken = withdrawn | {unit for each in self._rows(postgres, wish) for unit in each.units}
        slots = {slot for each in self._rows(postgres, wish, wish.buyer) for slot in each.slots}
        units = order.units
        if (unknown or not taken.isdisjoint(units)) and "V2-unique" not in self.without:
            if unknown or "V3-alone" not in self.without or taken.issuperset(units):
                return self._fail(postgres, order, "unit_taken")
            units = tuple(sorted(set(units) - taken))  # half an order
        if not slots.isdisjoint(order.slots) and "V2-slots" not in self.without:
            return self._fail(postgres, order, "already_bought")
        verdict = Verdict(order.ticket, units, order.slots)
        return with_verdict(postgres, verdict), verdict

    def _again(self, order: Order, stored: Verdict) -> Verdict | None:
        if "V5-again" in self.without:
            return None
        if "V3" in self.without and not stored.reason:  # its own row is taken for somebody else's
            return Verdict(order.ticket, order.units, order.slots, "already_bought")
        return stored

    def give_up(self, postgres: Postgres, order: Order) -> tuple[Postgres, Verdict | None]:
        """The last attempt failed too (V4, V6)."""
        stored = postgres.verdicts[order.ticket]
        if stored is not None:
            return postgres, stored
        if order.epoch < postgres.epoch:
            return postgres, None
        return self._fail(postgres, order, "not_writable")

    def _fail(self, postgres: Postgres, order: Order, reason: str) -> tuple[Postgres, Verdict]:
        verdict = Verdict(order.ticket, order.units, order.slots, reason)
        if self.without & {"V1", "V4"}:
            return postgres, verdict
        return with_verdict(postgres, verdict), verdict

    def _rows(self, postgres: Postgres, wish: Wish, buyer: int | None = None) -> list[Verdict]:
        """The orders that hold units of this sku; V2: the confirmed ones alone."""
        return [
            verdict
            for at, verdict in enumerate(postgres.verdicts)
            if verdict is not None
            and (not verdict.reason or "V2" in self.without)
            and self.wishes[at].sku == wish.sku
            and buyer in {None, self.wishes[at].buyer}
        ]

    def refill(self, redis: Redis, found: Postgres) -> Redis:
        """D3: records and units from what Redis still has, overruled by Postgres. The sale stays halted."""
        goal = self._goal(redis, found)
        high = [min(target, known) for (_, target, *_), (_, known, *_) in zip(goal, found.items, strict=True)]
        taken = [set(withdrawn) for *_, withdrawn, _ in goal]
        slots: dict[tuple[int, int], set[int]] = {}
        tickets = list(redis.tickets)
        for at, row in enumerate(found.verdicts):
            if row is not None and "D3-verdicts" not in self.without:
                ticket = tickets[at]
                ticket = (ticket or Ticket(State.RELEASED, IN_ITS_ROW))._replace(lease=0, seen=True)
                tickets[at] = ticket._replace(state=State.RELEASED, units=(), slots=())
                if not row.reason:
                    tickets[at] = ticket._replace(state=State.CONFIRMED, units=row.units, slots=row.slots)
                    taken[self.wishes[at].sku] |= set(row.units)
                    slots.setdefault(self.wishes[at][:2], set()).update(row.slots)
        live = sorted((t.arrival, at) for at, t in enumerate(tickets) if t is not None and t.state in LIVE)
        for _, at in live:
            ticket, wish = tickets[at], self.wishes[at]
            assert ticket is not None
            had = slots.setdefault(wish[:2], set())
            keeps = ticket.state is State.RESERVED and taken[wish.sku].isdisjoint(ticket.units)
            kept = ticket.slots
            if not had.isdisjoint(kept):  # another of the buyer's orders has one of them: these are as good
                kept = tuple(slot for slot in range(1, self.limit + 1) if slot not in had)[: len(ticket.units)]
            if keeps and len(kept) == len(ticket.units) and max(ticket.units) <= high[wish.sku]:
                tickets[at] = ticket._replace(slots=kept)
                taken[wish.sku] |= set(ticket.units)
                had |= set(kept)
            else:
                back = ticket.back or ticket.state is not State.WAITING
                seen = "D3-unseen" in self.without
                tickets[at] = Ticket(State.WAITING, ticket.arrival, 0, ticket.tries, back, seen=seen)
        items = tuple(self._item(*each) for each in zip(goal, high, taken, strict=True))
        return redis._replace(tickets=tuple(tickets), items=items)

    def _goal(self, redis: Redis, found: Postgres) -> tuple[Asked, ...]:
        """What is to be on sale: as the operator said last, even where Postgres had not heard of it."""
        if self.knows_more(redis, found):
            return change_of(redis).items
        return found.items

    def knows_more(self, redis: Redis, found: Postgres) -> bool:
        """Whether Redis knows a change of the sale that Postgres has not heard of."""
        return redis.version > found.version and redis.epoch >= found.changed

    def _item(self, goal: Asked, high: int, taken: set[int]) -> Item:
        stock, target, withdrawn, version = goal
        first = max(taken, default=0) + 1
        returned = frozenset(range(1, min(first - 1, high) + 1)) - taken
        if "U1-recover" in self.without:  # "stock less sold" taken for the next serial
            first, returned = len(taken) + 1, frozenset[int]()
        return Item(stock, high, target, 0, version, first, returned, withdrawn)

    def install(self, redis: Redis, found: Postgres, instance: int) -> Redis:
        """The refilled sale goes on, under Postgres's epoch. RESERVED tickets are due to be sent again (O3)."""
        newer = self.knows_more(redis, found)
        version = max(redis.version, found.version) if newer else found.version
        state = redis.state if newer else found.state
        installed = redis._replace(
            state="ended" if state == CLOSED else state,
            closing=False,
            version=version + 1,
            acked=found.version,
            epoch=found.epoch,
            seq=0 if "R1" not in self.without else redis.seq,
            fence=instance,
            claim=(0, 0),
            items=tuple(item._replace(asked=version + 1) for item in redis.items),
            last=(*redis.last, (redis.epoch, redis.seq)) if redis.state else (),
        )
        return posted(installed, change_of(installed))


def with_verdict(postgres: Postgres, verdict: Verdict) -> Postgres:
    """This row more."""
    at = verdict.ticket
    return postgres._replace(verdicts=(*postgres.verdicts[:at], verdict, *postgres.verdicts[at + 1 :]))


def take_over(postgres: Postgres, change: Change) -> Postgres:
    """A newer version of no older epoch replaces what is known of the sale."""
    if change.version <= postgres.version or change.epoch < postgres.epoch:
        return postgres
    return postgres._replace(
        epoch=change.epoch, version=change.version, changed=change.epoch, state=change.state, items=change.items
    )
