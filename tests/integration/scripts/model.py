"""One sale in plain Python, without Redis: what the scripts are held against, step by step.

Written from the rules of the protocol, not from the scripts: units are sets of serials in hands, the line is sorted
when somebody asks, and nothing is counted that can be looked at.
"""

from dataclasses import dataclass, field

from fairline.states import Event, State, after


@dataclass
class Ticket:
    id: str
    sku: str
    buyer: str
    quantity: int
    arrival: int
    number: int
    state: State = State.WAITING
    lease: str = ""
    tries: int = 0
    came_back: bool = False
    units: set[int] = field(default_factory=set)
    slots: set[int] = field(default_factory=set)
    reason: str = ""
    asked: int = 0  # with accept_fewer

    @property
    def live(self) -> bool:
        return self.state in {State.WAITING, State.ADMITTED, State.RESERVED}

    def move(self, event: Event, reason: str = "") -> None:
        self.state, self.reason = after(self.state, event), reason
        self.came_back |= event is Event.REQUEUE
        if self.state not in {State.ADMITTED, State.RESERVED}:
            self.lease = ""


@dataclass
class Item:
    stock: int
    high: int
    target: int
    asked: int = 0
    version: int = 0
    first: int = 1
    returned: set[int] = field(default_factory=set)
    withdrawn: set[int] = field(default_factory=set)

    @property
    def fresh(self) -> set[int]:
        return set(range(self.first, self.high + 1))

    @property
    def free(self) -> int:
        return len(self.returned) + len(self.fresh)

    def take(self, quantity: int) -> set[int]:
        units = set(sorted(self.returned)[:quantity])
        self.returned -= units
        units |= set(sorted(self.fresh)[: quantity - len(units)])
        self.first = max(self.first, *(unit + 1 for unit in units))
        return units


class Model:
    """The sale, open; ``stocks`` as the driver has it."""

    def __init__(self, stocks: dict[str, int], *, limit: int, capacity: int | None) -> None:
        self.items = {sku: Item(stock, stock, stock) for sku, stock in stocks.items()}
        self.limit = limit
        self.capacity = capacity
        self.state = "open"
        self.version = self.acked = 2
        self.closing = False
        self.tickets: dict[str, Ticket] = {}
        self.numbers = dict.fromkeys(stocks, 0)
        self.arrivals = 0
        self.archived = False

    def line(self, sku: str | None = None) -> list[Ticket]:
        """Who waits, by arrival."""
        waiting = (t for t in self.tickets.values() if t.state == "WAITING" and sku in {None, t.sku})
        return sorted(waiting, key=lambda ticket: ticket.arrival)

    def of(self, sku: str, *states: str) -> list[Ticket]:
        return [t for t in self.tickets.values() if t.sku == sku and t.state in states]

    def of_any(self, state: str) -> list[Ticket]:
        return [t for t in self.tickets.values() if t.state == state]

    def outlook(self, sku: str) -> str:
        item = self.items[sku]
        if item.free:
            return "available"
        return "all_reserved" if self.of(sku, "ADMITTED", "RESERVED") or item.target > item.high else "sold_out"

    def join(self, ticket_id: str, sku: str, buyer: str, quantity: int, *, fewer: bool) -> tuple[str, str | None]:
        """The word, and whose ticket is told."""
        if (mine := self.tickets.get(ticket_id)) is not None:
            wish = (mine.asked or mine.quantity, mine.asked > 0)
            return ("SAME", ticket_id) if wish == (quantity, fewer) else ("KEY_REUSED", None)
        others = [t for t in self.tickets.values() if (t.sku, t.buyer) == (sku, buyer)]
        if live := [t for t in others if t.live]:
            return "LIVE", live[0].id
        if self.state in {"ended", "closed"}:
            return "SALE_CLOSED", None
        holds = sum(len(t.slots) for t in others)
        if holds + quantity > self.limit:
            return ("ALREADY_BOUGHT" if holds >= self.limit else "OVER_LIMIT"), None
        if self.outlook(sku) == "sold_out":
            return "SOLD_OUT", None
        self.arrivals += 1
        self.numbers[sku] += 1
        self.tickets[ticket_id] = Ticket(
            ticket_id, sku, buyer, quantity, self.arrivals, self.numbers[sku], asked=quantity if fewer else 0
        )
        return "JOINED", ticket_id

    def readmit(self, was: str, ticket_id: str) -> str:
        """S2: once for each released ticket, at its old place."""
        if ticket_id in self.tickets:
            return "SAME"
        old = self.tickets[was]
        others = [t for t in self.tickets.values() if (t.sku, t.buyer) == (old.sku, old.buyer)]
        holds = sum(len(t.slots) for t in others)
        refusals = {
            "NOT_RELEASED": old.state != "RELEASED",
            "SALE_CLOSED": self.state in {"ended", "closed"},
            "LIVE": any(t.live for t in others),
            "ALREADY_BOUGHT": holds >= self.limit,
            "OVER_LIMIT": holds + old.quantity > self.limit and not old.asked,
            "SOLD_OUT": self.outlook(old.sku) == "sold_out",
        }
        for word, refused in refusals.items():
            if refused:
                return word
        self.tickets[ticket_id] = Ticket(
            ticket_id, old.sku, old.buyer, old.quantity, old.arrival, old.number, asked=old.asked, came_back=True
        )
        return "READMITTED"

    def leave(self, ticket_id: str) -> str:
        ticket = self.tickets[ticket_id]
        if ticket.state == "WAITING":
            ticket.move(Event.LEAVE)
        return "LEFT" if ticket.state == "LEFT" else "NOT_WAITING"

    def admit(self, lease: str, most: int) -> tuple[str, list[str]]:
        if self.state != "open":
            return "NOT_OPEN", []
        in_flight = sum(t.state == "ADMITTED" for t in self.tickets.values())
        room = most if self.capacity is None else min(most, self.capacity - in_flight)
        admitted: list[str] = []
        declined, blocked = 0, set[str]()
        for ticket in self.line():
            if len(admitted) >= room or declined >= most:
                break
            unclaimed = self.items[ticket.sku].free - sum(t.quantity for t in self.of(ticket.sku, "ADMITTED"))
            if ticket.sku in blocked or unclaimed <= 0:
                continue  # L6: the others of the line go by arrival
            item = self.items[ticket.sku]
            if ticket.asked:
                ticket.quantity = min(ticket.quantity, unclaimed)  # Q1
            if ticket.quantity <= unclaimed:
                ticket.move(Event.ADMIT)
                ticket.lease, ticket.tries = lease, ticket.tries + 1
                admitted.append(ticket.id)
            elif self.of(ticket.sku, "ADMITTED", "RESERVED") or item.target > item.high:
                blocked.add(ticket.sku)  # Q1
            else:
                ticket.move(Event.DECLINE, "not_enough_left")
                declined += 1
        return "ADMITTED", admitted

    def _mine(self, ticket_id: str, lease: str) -> Ticket | None:
        ticket = self.tickets[ticket_id]
        return ticket if ticket.state == "ADMITTED" and ticket.lease == lease else None

    def reserve(self, lease: str, ticket_id: str) -> str:
        ticket = self._mine(ticket_id, lease)
        if ticket is None:
            there = self.tickets[ticket_id]
            if there.state == "DECLINED" or (there.state == "RESERVED" and there.lease == lease):
                return str(there.state)
            return "STALE"
        held = [t for t in self.tickets.values() if (t.sku, t.buyer) == (ticket.sku, ticket.buyer)]
        slots = set[int]().union(*(t.slots for t in held))
        item = self.items[ticket.sku]
        if ticket.asked:
            ticket.quantity = min(ticket.quantity, self.limit - len(slots))  # Q1
        if item.free < ticket.quantity:
            return "NO_UNIT"
        ticket.units = item.take(ticket.quantity)
        ticket.slots = set(sorted(set(range(1, self.limit + 1)) - slots)[: ticket.quantity])
        ticket.move(Event.RESERVE)
        return "RESERVED"

    def decline(self, lease: str, ticket_id: str) -> str:
        ticket = self._mine(ticket_id, lease)
        if ticket is not None:
            ticket.move(Event.DECLINE, "no")
        return "DECLINED" if self.tickets[ticket_id].state == "DECLINED" else "STALE"

    def give_back(self, lease: str, ticket_id: str) -> str:
        ticket = self._mine(ticket_id, lease)
        if ticket is not None:
            ticket.move(Event.REQUEUE)
            ticket.tries -= 1
        return "WAITING" if self.tickets[ticket_id].state == "WAITING" else "STALE"

    def reap(self, ended: list[str], max_tries: int) -> tuple[int, int]:
        returned = lapsed = 0
        for ticket in map(self.tickets.__getitem__, ended):
            if ticket.state != "ADMITTED":
                continue
            if ticket.tries < max_tries:
                ticket.move(Event.REQUEUE)
                returned += 1
            else:
                ticket.move(Event.LAPSE, "not_decided_in_time")
                lapsed += 1
        return returned, lapsed

    def settle(self, ticket_id: str, event: Event, units: set[int], slots: set[int]) -> int:
        """Postgres has the order with these units and slots; or refuses it (both empty)."""
        ticket = self.tickets[ticket_id]
        if not ticket.live:
            return 0
        item = self.items[ticket.sku]
        item.returned |= ticket.units - units
        for unit in sorted(units - ticket.units):
            item.returned |= set(range(item.first, unit))
            item.first = max(item.first, unit + 1)
            item.returned.discard(unit)
        ticket.units, ticket.slots = units, slots
        if event is Event.CONFIRM:
            ticket.quantity = len(units)
        ticket.move(event, "" if event is Event.CONFIRM else "not_writable")
        return 1

    def sweep(self, most: int) -> int:
        swept = 0
        for sku in self.items:
            if self.state in {"open", "paused"} and self.outlook(sku) == "sold_out":
                for ticket in self.line(sku)[::-1][: most - swept]:
                    ticket.move(Event.SELL_OUT)
                    swept += 1
        return swept

    def set_stock(self, sku: str, stock: int, version: int) -> str:
        item = self.items[sku]
        if (version, stock) == (item.version, item.stock):
            return "SAME"
        if version <= item.version:
            return "STALE"
        if self.state in {"ended", "closed"}:
            return "ENDED"
        if stock >= item.stock:
            item.target += stock - item.stock
        else:
            take = item.stock - stock
            unknown = min(take, item.target - item.high)
            claimed = sum(t.quantity for t in self.of(sku, "ADMITTED"))
            claimed += sum(t.quantity for t in self.of(sku, "WAITING") if t.came_back)
            if take - unknown > max(0, item.free - claimed):
                return "TOO_LOW"
            fresh = min(take - unknown, len(item.fresh))
            item.target, item.high = item.target - unknown - fresh, item.high - fresh
            gone = set(sorted(item.returned)[::-1][: take - unknown - fresh])
            item.returned, item.withdrawn = item.returned - gone, item.withdrawn | gone
        self.version += 1
        item.stock, item.version, item.asked = stock, version, self.version
        return "CHANGED"

    def acknowledge(self, version: int) -> str:
        if not self.acked < version <= self.version:
            return "OLD"
        self.acked = version
        for item in self.items.values():
            if item.asked <= version:
                item.high = max(item.high, item.target)
        return "APPLIED"

    def change(self, action: str) -> str:
        reached = {"pause": "paused", "resume": "open", "end": "ended"}[action]
        if self.state == reached or (action == "end" and self.state == "closed"):
            return "SAME"
        if (self.state, action) not in {("open", "pause"), ("paused", "resume"), ("open", "end"), ("paused", "end")}:
            return "ILLEGAL"
        self.state, self.version = reached, self.version + 1
        return "CHANGED"

    def close(self, most: int) -> tuple[str, int]:
        """With an outbox that somebody else has emptied."""
        if self.state != "ended":
            return ("CLOSED" if self.state == "closed" else "NOT_ENDED"), 0
        declined = 0
        for sku in self.items:
            for ticket in self.line(sku)[::-1][: most - declined]:
                ticket.move(Event.DECLINE, "sale_closed")
                declined += 1
        if not declined and self.version == self.acked and not any(t.live for t in self.tickets.values()):
            if self.closing:
                self.state = "closed"
            else:  # Postgres is told first
                self.closing = True
                self.version += 1
        return self.state.upper(), declined
