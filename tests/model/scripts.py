"""The Lua scripts of a sale as functions of what Redis holds: each is one atomic step and answers the Redis after it.

A call that changes nothing answers the very object it was given. One ticket a call; the real scripts take many, one
after the other. ``without`` names the rules that are left out (see ``tests.model.variants``).
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from fairline.states import LIVE, State, after
from fairline.states import Event as By
from tests.model.world import HALTED, Applied, Arrival, Change, Item, Order, Redis, Scenario, Ticket, Verdict

OPEN, PAUSED, ENDED, CLOSED = "open", "paused", "ended", "closed"
HELD = (State.RESERVED, State.CONFIRMED)


class Scripts:
    """The scripts for one scenario."""

    def __init__(self, scenario: Scenario, without: AbstractSet[str]) -> None:
        self.wishes = scenario.wishes
        self.limit = scenario.limit
        self.capacity = scenario.capacity
        self.max_tries = scenario.max_tries
        self.keep_line = scenario.keep_line
        self.without = without

    # What many scripts ask

    def those(self, redis: Redis, sku: int, *states: State) -> Iterator[tuple[int, Ticket]]:
        """The tickets of a sku in these states."""
        for at, ticket in enumerate(redis.tickets):
            if ticket is not None and ticket.state in states and self.wishes[at].sku == sku:
                yield at, ticket

    def wanted(self, redis: Redis, sku: int, *states: State) -> int:
        """The units that these tickets ask for."""
        return sum(self.wishes[at].quantity for at, _ in self.those(redis, sku, *states))

    def line(self, redis: Redis) -> list[int]:
        """Who waits, of all skus, by arrival; not those who have not shown up since a recovery (D3)."""
        waiting = (
            (ticket.arrival, at)
            for at, ticket in enumerate(redis.tickets)
            if ticket is not None and ticket.state is State.WAITING and ticket.seen
        )
        return [at for _, at in sorted(waiting)]

    def of_buyer(self, redis: Redis, wish: int) -> list[Ticket]:
        """All tickets of this wish's buyer for its sku."""
        buyer, sku = self.wishes[wish][:2]
        return [t for at, t in enumerate(redis.tickets) if t is not None and self.wishes[at][:2] == (buyer, sku)]

    def outlook(self, redis: Redis, sku: int) -> str:
        """E1."""
        item = redis.items[sku]
        if item.free:
            return "available"
        under_way = (State.ADMITTED, State.RESERVED) if "E1" not in self.without else (State.ADMITTED,)
        if any(self.those(redis, sku, *under_way)) or item.target > item.high:
            return "all_reserved"
        return "sold_out"

    # Buyers

    def join(self, redis: Redis, wish: int, arrival: Arrival | None = None) -> Redis:
        """A new ticket at the next arrival; readmitted, at ``arrival``, as one back. Nothing where it is refused."""
        mine = self.of_buyer(redis, wish)
        quantity, sku = self.wishes[wish].quantity, self.wishes[wish].sku
        if redis.state in {ENDED, CLOSED} or (any(t.state in LIVE for t in mine) and "R2" not in self.without):
            return redis
        if sum(len(t.slots) for t in mine) + quantity > self.limit:
            return redis
        if self.outlook(redis, sku) == "sold_out" and not self.keep_line:
            return redis
        if arrival is not None:
            return put(redis, wish, Ticket(State.WAITING, arrival, back=True))
        redis = redis._replace(seq=redis.seq + 1)
        return put(redis, wish, Ticket(State.WAITING, (redis.epoch if "R1" not in self.without else 0, redis.seq)))

    def leave(self, redis: Redis, at: int) -> Redis:
        return moved(redis, at, By.LEAVE) if state_of(redis, at) is State.WAITING else redis

    # Controllers

    def admit(self, redis: Redis, lease: int) -> Redis:
        """One ticket ADMITTED under the lease, or the head DECLINED because too few units will ever be left (Q1)."""
        in_flight = sum(t is not None and t.state is State.ADMITTED for t in redis.tickets)
        if redis.state != OPEN or (in_flight >= self.capacity and "L3" not in self.without):
            return redis
        blocked = set[int]()
        for at in self.line(redis):
            wish, item = self.wishes[at], redis.items[self.wishes[at].sku]
            claims = self.wanted(redis, wish.sku, State.ADMITTED) if "L6" not in self.without else 0
            unclaimed = item.free - claims
            if unclaimed <= 0 and "L6-skip" in self.without:
                return redis
            if unclaimed <= 0 or wish.sku in blocked:
                continue
            if wish.quantity <= unclaimed:
                return self._lease(redis, at, lease)
            may_come_back = any(self.those(redis, wish.sku, State.ADMITTED, State.RESERVED)) or item.target > item.high
            if may_come_back and "Q1-wait" not in self.without:
                if "Q1-behind" not in self.without:
                    blocked.add(wish.sku)
            elif "Q1-end" not in self.without:
                return moved(redis, at, By.DECLINE, too_few=True)
            else:
                blocked.add(wish.sku)
        return redis

    def _lease(self, redis: Redis, at: int, lease: int) -> Redis:
        ticket = redis.tickets[at]
        assert ticket is not None
        if "L1" in self.without:  # a counter, which a loss of data sets back
            lease = ticket.tries + 1
        return moved(redis, at, By.ADMIT, lease=lease, tries=min(ticket.tries + 1, self.max_tries))

    def is_mine(self, redis: Redis, at: int, lease: int) -> bool:
        """L2."""
        ticket = redis.tickets[at]
        if ticket is None or (ticket.state is not State.ADMITTED and "L2-state" not in self.without):
            return False
        return ticket.state in LIVE and (ticket.lease == lease or bool(self.without & {"L2-lease", "L2-state"}))

    def reserve(self, redis: Redis, at: int, lease: int) -> Redis:
        """RESERVED with its order in the outbox, DECLINED over the limit, or nothing."""
        if not self.is_mine(redis, at, lease):
            return redis
        wish, item = self.wishes[at], redis.items[self.wishes[at].sku]
        quantity = wish.quantity
        taken = {slot for ticket in self.of_buyer(redis, at) for slot in ticket.slots}
        if item.free < quantity:
            return redis
        over = len(taken) + quantity > self.limit
        if over and "L7" in self.without:  # the units are taken, then the script gives up
            return moved(with_item(redis, wish.sku, take(item, quantity)[1]), at, By.DECLINE)
        if over and "L2-limit" not in self.without:
            return moved(redis, at, By.DECLINE)
        units, item = take(item, quantity)
        if "U1" in self.without:
            first = 1 + self.wanted(redis, wish.sku, *HELD)
            units = tuple(range(first, first + quantity))
        slots = tuple(slot for slot in range(1, 9) if slot not in taken)[:quantity]
        redis = with_item(redis, wish.sku, item)
        ticket = redis.tickets[at]
        assert ticket is not None
        ticket = ticket._replace(state=State.RESERVED, units=units, slots=slots, lease=lease)
        return posted(put(redis, at, ticket), Order(at, units, slots, redis.epoch))

    def decline(self, redis: Redis, at: int, lease: int) -> Redis:
        if not self.is_mine(redis, at, lease):
            return redis
        if state_of(redis, at) is State.RESERVED:  # only without L2
            return put(redis, at, Ticket(State.DECLINED, arrival_of(redis, at)))
        return moved(redis, at, By.DECLINE)

    def give_back(self, redis: Redis, at: int, lease: int) -> Redis:
        """The shop could not be asked: back into its place, and the try does not count (L5)."""
        ticket = redis.tickets[at]
        if ticket is None or not self.is_mine(redis, at, lease):
            return redis
        return moved(redis, at, By.REQUEUE, tries=ticket.tries - 1, back=True)

    # The keeper

    def reap(self, redis: Redis, at: int) -> Redis:
        """The lease of an ADMITTED ticket has ended (L5)."""
        ticket = redis.tickets[at]
        if ticket is None or ticket.state is not State.ADMITTED:
            return redis
        if ticket.tries >= self.max_tries and "L5-tries" not in self.without:
            return moved(redis, at, By.LAPSE)
        if "L5-place" in self.without:
            redis = redis._replace(seq=redis.seq + 1)
            return moved(redis, at, By.REQUEUE, back=True, arrival=(redis.epoch, redis.seq))
        return moved(redis, at, By.REQUEUE, back="U3-claims" not in self.without)

    def sweep(self, redis: Redis) -> Redis:
        """The tail of each line that nothing is left for is SOLD_OUT (E1 to E3)."""
        if redis.state not in {OPEN, PAUSED} or self.keep_line:
            return redis
        for sku in range(len(redis.items)):
            waiting = sorted((t.arrival, at) for at, t in self.those(redis, sku, State.WAITING))
            if waiting and self.outlook(redis, sku) == "sold_out":
                redis = moved(redis, waiting[0 if "E3" in self.without else -1][1], By.SELL_OUT)
        return redis

    def close(self, redis: Redis) -> Redis:
        """After the end: the tail of the line DECLINED; CLOSED when nothing is under way (E4)."""
        if redis.state != ENDED:
            return redis
        waiting = [(t.arrival, at) for at, t in enumerate(redis.tickets) if t and t.state is State.WAITING]
        if waiting and "E4" not in self.without:
            return moved(redis, max(waiting)[1], By.DECLINE)
        busy = any(t and t.state in LIVE for t in redis.tickets) or redis.outbox or redis.acked < redis.version
        if busy and "E4-closed" not in self.without:
            return redis
        return redis._replace(state=CLOSED) if redis.closing else changed(redis._replace(closing=True))

    def redrive(self, redis: Redis, at: int) -> Redis:
        """The order of a RESERVED ticket again, with today's epoch (O3)."""
        ticket = redis.tickets[at]
        if ticket is None or ticket.state is not State.RESERVED or "O2" in self.without:
            return redis
        epoch = redis.epoch if "O3-epoch" not in self.without else ticket.arrival[0]
        return posted(redis, Order(at, ticket.units, ticket.slots, epoch))

    def redrive_change(self, redis: Redis) -> Redis:
        return posted(redis, change_of(redis)) if redis.acked < redis.version else redis

    # Verdicts

    def settle(self, redis: Redis, verdict: Verdict) -> Redis:
        """Forced on a live ticket, without effect on any other (S1)."""
        at = verdict.ticket
        ticket, sku = redis.tickets[at], self.wishes[at].sku
        if ticket is None:
            return redis
        item = redis.items[sku]
        if ticket.state not in LIVE:
            if "S1" not in self.without or not verdict.reason:
                return redis
            return with_item(redis, sku, item._replace(returned=item.returned | frozenset(verdict.units)))
        if "S1-forced" in self.without and ticket.state is not State.RESERVED:
            return redis
        lost = verdict.reason == "unit_taken"
        sold = verdict.units if not verdict.reason else ()
        back = frozenset(ticket.units) - frozenset(sold)
        if (not lost or "U4" in self.without) and "U2" not in self.without:
            item = item._replace(returned=item.returned | back)
        for unit in sorted(set(sold) - set(ticket.units)):
            item = mark_sold(item, unit)
        event = By.RELEASE if verdict.reason else By.CONFIRM
        slots = verdict.slots if not verdict.reason else ()
        redis = moved(with_item(redis, sku, item), at, event, units=tuple(sold), slots=slots)
        return redis._replace(fence=HALTED) if lost and "U4" not in self.without else redis

    # The operator, and what Postgres answers

    def change(self, redis: Redis, action: str) -> Redis:
        source, target = {"pause": (OPEN, PAUSED), "resume": (PAUSED, OPEN), "end": (OPEN, ENDED)}[action]
        return changed(redis._replace(state=target)) if redis.state == source else redis

    def stock(self, redis: Redis, sku: int, stock: int, version: int) -> Redis:
        """Set absolutely, with the operator's version (U3)."""
        item = redis.items[sku]
        if version <= item.version and "U3-again" in self.without:  # "one more", told twice
            stock, version = item.stock + 1, item.version
        elif version <= item.version or redis.state in {ENDED, CLOSED}:
            return redis
        if stock < item.stock:
            unknown = min(item.stock - stock, item.target - item.high)
            gone = item.stock - stock - unknown
            claimed = self.wanted(redis, sku, State.ADMITTED)
            claimed += sum(self.wishes[at].quantity for at, t in self.those(redis, sku, State.WAITING) if t.back)
            if gone > max(0, item.free - claimed):
                return redis
            fresh = min(gone, max(0, item.high - item.first + 1))
            withdrawn = frozenset(sorted(item.returned, reverse=True)[: gone - fresh])
            item = item._replace(
                high=item.high - fresh,
                target=item.target - unknown - fresh,
                returned=item.returned - withdrawn if "U3-serials" not in self.without else item.returned,
                withdrawn=item.withdrawn | withdrawn,
            )
        else:
            item = item._replace(target=item.target + stock - item.stock)
            if "U3-postgres" in self.without:
                item = item._replace(high=item.target)
        item = item._replace(stock=stock, version=version, asked=redis.version + 1)
        return changed(with_item(redis, sku, item))

    def applied(self, redis: Redis, known: Applied) -> Redis:
        if known.epoch != redis.epoch or not redis.acked < known.version <= redis.version:
            return redis
        items = tuple(
            item._replace(high=item.target) if item.asked <= known.version and item.target > item.high else item
            for item in redis.items
        )
        return redis._replace(acked=known.version, items=items)


def state_of(redis: Redis, at: int) -> State | None:
    """Of a ticket; nothing for one that Redis does not know."""
    ticket = redis.tickets[at]
    return None if ticket is None else ticket.state


def arrival_of(redis: Redis, at: int) -> Arrival:
    ticket = redis.tickets[at]
    assert ticket is not None
    return ticket.arrival


def put(redis: Redis, at: int, ticket: Ticket | None) -> Redis:
    """This record in the place of the one before."""
    return redis._replace(tickets=(*redis.tickets[:at], ticket, *redis.tickets[at + 1 :]))


def moved(redis: Redis, at: int, event: By, **fields: object) -> Redis:
    """The ticket in its next state; without a lease where that state has none. Illegal moves raise."""
    ticket = redis.tickets[at]
    assert ticket is not None
    state = after(ticket.state, event)
    if state not in {State.ADMITTED, State.RESERVED}:
        fields.setdefault("lease", 0)
    return put(redis, at, ticket._replace(state=state, **fields))  # type: ignore[arg-type]


def posted(redis: Redis, fact: Order | Change) -> Redis:
    """A fact more in the outbox."""
    return redis._replace(outbox=redis.outbox | {fact})


def change_of(redis: Redis) -> Change:
    """The whole sale as it is to be."""
    items = tuple((item.stock, item.target, item.withdrawn, item.version) for item in redis.items)
    return Change(redis.version, redis.epoch, CLOSED if redis.closing else redis.state, items)


def changed(redis: Redis) -> Redis:
    """One version more, and the fact of it."""
    redis = redis._replace(version=redis.version + 1)
    return posted(redis, change_of(redis))


def with_item(redis: Redis, sku: int, item: Item) -> Redis:
    """This stock in the place of the one before."""
    return redis._replace(items=(*redis.items[:sku], item, *redis.items[sku + 1 :]))


def take(item: Item, quantity: int) -> tuple[tuple[int, ...], Item]:
    """U1: the smallest that came back, else the next one never taken."""
    back = sorted(item.returned)[:quantity]
    fresh = range(item.first, item.first + quantity - len(back))
    return (*back, *fresh), item._replace(returned=item.returned - set(back), first=item.first + len(fresh))


def mark_sold(item: Item, unit: int) -> Item:
    """Postgres has sold what Redis thought free; those skipped are free, as far as they are on sale."""
    if unit < item.first:
        return item._replace(returned=item.returned - {unit})
    skipped = range(item.first, min(unit - 1, item.high) + 1)
    return item._replace(returned=item.returned | set(skipped), first=unit + 1)
