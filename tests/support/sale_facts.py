"""What must be true of a sale in Redis at every instant, worked out from its tickets alone.

Asked after each test of a script, and after each step of the random ones: whatever a script counts, keeps or orders
must be what a full scan of the tickets gives (C1), and every serial must be in exactly one hand (U1).
"""

from collections import Counter, defaultdict
from typing import Any

import msgspec

from fairline.states import LIVE, State
from fairline.store.scripts import TicketRecord
from tests.support.sale import SaleDriver

_RUNNING = (":asked", ":refused:", ":admitted_total", ":joined", ":DECLINED:")


async def faults_of(sale: SaleDriver) -> list[str]:
    """Everything about the sale that contradicts its tickets; empty when all is well."""
    facts = _Facts(sale)
    await facts.read()
    await facts.of_counts()
    await facts.of_buyers()
    await facts.of_clocks()
    for at, sku in enumerate(sale.skus):
        await facts.of_line(at, sku)
        await facts.of_units(sku)
    facts.of_records()
    return facts.faults


class _Facts:
    def __init__(self, sale: SaleDriver) -> None:
        self.sale = sale
        self.faults: list[str] = []
        self.tickets: dict[str, TicketRecord] = {}
        self.items: dict[str, int] = {}
        self.counts: dict[str, int] = {}

    def must(self, what: str, found: Any, expected: Any) -> None:
        if found != expected:
            self.faults.append(f"{what}: Redis has {found}, the tickets say {expected}")

    async def hash(self, key: str) -> dict[str, bytes]:
        return {name.decode(): value for name, value in (await self.sale.raw.hgetall(key)).items()}

    async def read(self) -> None:
        keys = self.sale.keys
        for name, packed in (await self.hash(keys.tickets)).items():
            self.tickets[name] = msgspec.msgpack.decode(packed, type=TicketRecord)
        self.items = {name: int(number) for name, number in (await self.hash(keys.items)).items()}
        self.counts = {name: int(number) for name, number in (await self.hash(keys.counts)).items()}

    async def of_counts(self) -> None:
        states = Counter(f"{ticket.sku}:{ticket.state}" for ticket in self.tickets.values())
        kept = {name: n for name, n in self.counts.items() if n and not any(word in name for word in _RUNNING)}
        self.must("C1 counts by state", kept, dict(states))
        reasons = Counter(f"{t.sku}:DECLINED:{t.reason}" for t in self.tickets.values() if t.state == "DECLINED")
        self.must("declined by reason", {n: c for n, c in self.counts.items() if ":DECLINED:" in n}, dict(reasons))
        joined = Counter(f"{ticket.sku}:joined" for ticket in self.tickets.values())
        self.must("joined", {n: c for n, c in self.counts.items() if n.endswith(":joined")}, dict(joined))

    async def of_buyers(self) -> None:
        live = {f"{t.sku}:{t.buyer}": name for name, t in self.tickets.items() if t.state in LIVE}
        found = {who: name.decode() for who, name in (await self.hash(self.sale.keys.live)).items()}
        self.must("live tickets", found, live)
        slots: dict[str, list[int]] = defaultdict(list)
        for ticket in self.tickets.values():
            slots[f"{ticket.sku}:{ticket.buyer}"].extend(ticket.slots)
        held = {who: msgspec.msgpack.decode(each) for who, each in (await self.hash(self.sale.keys.held)).items()}
        self.must(
            "slots",
            {who: sorted(each) for who, each in held.items()},
            {who: sorted(each) for who, each in slots.items() if each},
        )
        for who, each in slots.items():
            if len(set(each)) < len(each) or not set(each) <= set(range(1, self.sale.definition.per_buyer_limit + 1)):
                self.faults.append(f"V2 {who} holds slots {each} of {self.sale.definition.per_buyer_limit}")

    async def of_clocks(self) -> None:
        keys = self.sale.keys
        for key, state in ((keys.leases, State.ADMITTED), (keys.reserved, State.RESERVED)):
            members = {name.decode() for name in await self.sale.raw.zrange(key, 0, -1)}
            self.must(f"members of {key}", members, {name for name, t in self.tickets.items() if t.state == state})

    async def of_line(self, at: int, sku: str) -> None:
        members = await self.sale.raw.zrange(self.sale.keys.line[at], 0, -1, withscores=True)
        waiting = {name: t for name, t in self.tickets.items() if t.sku == sku and t.state == "WAITING"}
        line = sorted(((name, t.arrival) for name, t in waiting.items()), key=lambda pair: pair[1])
        self.must(f"line of {sku}", [(name.decode(), int(score)) for name, score in members], line)
        claims = sum(t.quantity for t in self.tickets.values() if t.sku == sku and t.state == "ADMITTED")
        self.must(f"L6 claims of {sku}", self.items.get(f"{sku}:claims", 0), claims)
        back = sum(t.quantity for t in waiting.values() if t.back)
        self.must(f"U3 back of {sku}", self.items.get(f"{sku}:back", 0), back)
        served = self.items[f"{sku}:served"]
        passed = [name for name, t in waiting.items() if not t.back and t.number <= served]
        self.must(f"never admitted, and served is {served} in {sku}", passed, [])

    async def of_units(self, sku: str) -> None:
        high, first, stock, target = (self.items[f"{sku}:{field}"] for field in ("high", "next", "stock", "target"))
        withdrawn = await self.sale.withdrawn(sku)
        hands: dict[int, list[str]] = defaultdict(list)
        for name, ticket in self.tickets.items():
            for unit in ticket.units if ticket.sku == sku else ():
                hands[unit].append(f"{ticket.state} {name}")
        for hand, serials in (
            ("returned", await self.sale.returned(sku)),
            ("withdrawn", withdrawn),
            ("fresh", range(first, high + 1)),
        ):
            for serial in serials:
                hands[serial].append(hand)
        wrong = {serial: who for serial, who in hands.items() if len(who) != 1 or not 1 <= serial <= high}
        self.must(f"U1 units of {sku} in one hand each", wrong, {})
        self.must(f"U1 units of {sku} in no hand", set(range(1, high + 1)) - set(hands), set())
        self.must(f"U3 stock of {sku}", stock, target - len(withdrawn))

    def of_records(self) -> None:
        for name, ticket in self.tickets.items():
            holds = ticket.quantity if ticket.state in {"RESERVED", "CONFIRMED"} else 0
            self.must(
                f"units and slots of {name}, {ticket.state}", (len(ticket.units), len(ticket.slots)), (holds,) * 2
            )
            leased = ticket.state in {"ADMITTED", "RESERVED"}
            self.must(f"whether {name}, {ticket.state}, has a lease", ticket.lease != "", leased)
