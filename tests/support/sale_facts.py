"""What must be true of a sale in Redis at every instant, worked out from its tickets alone.

Asked after each test of a script, and after each step of the random ones: whatever a script counts, keeps or orders
must be what a full scan of the tickets gives (C1), and every serial must be in exactly one hand (U1).
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fairline.states import LIVE, State
from fairline.store.scripts import TicketRecord
from fairline.store.tickets import ARRIVALS_AN_EPOCH, UNSEEN
from tests.support.sale import SaleDriver

_RUNNING = (":asked", ":refused:", ":admitted_total", ":joined", ":DECLINED:")


async def faults_of(sale: SaleDriver) -> list[str]:
    """Everything about the sale that contradicts its tickets; empty when all is well."""
    return (await Snapshot.of(sale)).faults()


@dataclass
class Snapshot:
    """All that Redis holds of a sale, read in one round trip. A line is (ticket_id, score), the next to go first."""

    limit: int
    meta: dict[str, str]
    items: dict[str, int]
    counts: dict[str, int]
    tickets: dict[str, TicketRecord]
    live: dict[str, str]
    held: dict[str, list[int]]
    leases: set[str]
    reserved: set[str]
    lines: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    parked: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    returned: dict[str, set[int]] = field(default_factory=dict)
    withdrawn: dict[str, set[int]] = field(default_factory=dict)

    @classmethod
    async def of(cls, sale: SaleDriver) -> "Snapshot":
        keys, reads = sale.keys, sale.raw.pipeline(transaction=True)
        for key in (keys.meta, keys.items, keys.counts, keys.tickets, keys.live, keys.held):
            reads.hgetall(key)
        for key in (keys.leases, keys.reserved):
            reads.zrange(key, 0, -1)
        for at in range(len(sale.skus)):
            reads.zrange(keys.line[at], 0, -1, withscores=True)
            reads.zrange(keys.returned[at], 0, -1)
            reads.smembers(keys.withdrawn[at])
            reads.zrange(keys.parked[at], 0, -1, withscores=True)
        meta, items, counts, tickets, live, held, leases, reserved, *by_sku = await reads.execute()
        found = cls(
            limit=sale.definition.per_buyer_limit,
            meta={name.decode(): text.decode() for name, text in meta.items()},
            items={name.decode(): int(number) for name, number in items.items()},
            counts={name.decode(): int(number) for name, number in counts.items()},
            tickets={name.decode(): msgspec.msgpack.decode(raw, type=TicketRecord) for name, raw in tickets.items()},
            live={who.decode(): name.decode() for who, name in live.items()},
            held={who.decode(): sorted(msgspec.msgpack.decode(slots)) for who, slots in held.items()},
            leases={name.decode() for name in leases},
            reserved={name.decode() for name in reserved},
        )
        for at, sku in enumerate(sale.skus):
            line, returned, withdrawn, parked = by_sku[4 * at : 4 * at + 4]
            found.lines[sku] = [(name.decode(), int(score)) for name, score in line]
            found.parked[sku] = [(name.decode(), int(score)) for name, score in parked]
            found.returned[sku] = {int(serial) for serial in returned}
            found.withdrawn[sku] = {int(serial) for serial in withdrawn}
        return found

    def faults(self) -> list[str]:
        """See ``faults_of``."""
        faults: list[str] = []
        if self.meta["fence"] == "archived":
            return [f"{what}: Redis has {found}" for what, found, expected in self._archived() if found != expected]
        for what, found, expected in [*self._counts(), *self._buyers(), *self._clocks(), *self._records()]:
            if found != expected:
                faults.append(f"{what}: Redis has {found}, the tickets say {expected}")
        for sku in self.lines:
            for what, found, expected in [*self._line(sku), *self._units(sku)]:
                if found != expected:
                    faults.append(f"{what} of {sku}: Redis has {found}, the tickets say {expected}")
        return faults

    def _archived(self) -> list[tuple[str, Any, Any]]:
        states = [f":{state}" for state in State]
        left: list[Any] = [self.tickets, self.live, self.held, self.leases, self.reserved]
        left += [each for sku in self.lines for each in (self.lines[sku], self.returned[sku], self.withdrawn[sku])]
        joined = {sku: self.counts.get(f"{sku}:joined", 0) for sku in self.lines}
        ended = {sku: sum(self.counts.get(sku + state, 0) for state in states) for sku in self.lines}
        return [("C2 more than counters", [each for each in left if each], []), ("C1 joined", joined, ended)]

    def _counts(self) -> list[tuple[str, Any, Any]]:
        all_of = self.tickets.values()
        states = Counter(f"{ticket.sku}:{ticket.state}" for ticket in all_of)
        joined = Counter(f"{ticket.sku}:joined" for ticket in all_of)
        counted = {name: n for name, n in self.counts.items() if n}
        declined = [(f"{each.sku}:DECLINED:", each.reason) for each in all_of if each.state == "DECLINED"]
        reasons = Counter(of + (why if of + why in counted else "other") for of, why in declined)  # few are told apart
        kept = {name: n for name, n in counted.items() if not any(word in name for word in _RUNNING)}
        return [
            ("C1 counts by state", kept, dict(states)),
            ("declined by reason", {name: n for name, n in counted.items() if ":DECLINED:" in name}, dict(reasons)),
            ("joined", {name: n for name, n in counted.items() if name.endswith(":joined")}, dict(joined)),
        ]

    def _buyers(self) -> list[tuple[str, Any, Any]]:
        slots: dict[str, list[int]] = defaultdict(list)
        for ticket in self.tickets.values():
            if ticket.slots:
                slots[f"{ticket.sku}:{ticket.buyer}"].extend(ticket.slots)
        allowed = set(range(1, self.limit + 1))
        wrong = {who: each for who, each in slots.items() if len(set(each)) < len(each) or not set(each) <= allowed}
        live = {f"{each.sku}:{each.buyer}": name for name, each in self.tickets.items() if each.state in LIVE}
        return [
            ("R2 live tickets", self.live, live),
            ("V2 slots", self.held, {who: sorted(each) for who, each in slots.items()}),
            ("V2 slots twice or beyond the limit", wrong, {}),
        ]

    def _clocks(self) -> list[tuple[str, Any, Any]]:
        def within(state: State) -> set[str]:
            return {name for name, ticket in self.tickets.items() if ticket.state == state}

        return [
            ("L3 leases", self.leases, within(State.ADMITTED)),
            ("O3 reserved", self.reserved, within(State.RESERVED)),
        ]

    def _records(self) -> list[tuple[str, Any, Any]]:
        rows: list[tuple[str, Any, Any]] = []
        for name, ticket in self.tickets.items():
            holds = ticket.quantity if ticket.state in {"RESERVED", "CONFIRMED"} else 0
            leased = ticket.state in {"ADMITTED", "RESERVED"} or (ticket.state, ticket.lease) == ("WAITING", UNSEEN)
            rows.append(
                (f"units, slots of {ticket.state} {name}", (len(ticket.units), len(ticket.slots)), (holds,) * 2)
            )
            rows.append((f"whether {ticket.state} {name} has a lease", ticket.lease != "", leased))
        return rows

    def _line(self, sku: str) -> list[tuple[str, Any, Any]]:
        waiting = {name: each for name, each in self.tickets.items() if each.sku == sku and each.state == "WAITING"}
        line = sorted(((name, each.arrival) for name, each in waiting.items()), key=lambda pair: pair[1])
        claims = sum(each.quantity for each in self.tickets.values() if each.sku == sku and each.state == "ADMITTED")
        served = self.items[f"{sku}:served"]
        return [
            ("R1 line", sorted(self.lines[sku] + self.parked[sku], key=lambda pair: pair[1]), line),
            ("D3 parked are unseen", [n for n, _ in self.parked[sku] if self.tickets[n].lease != UNSEEN], []),
            ("parked and in line", {n for n, _ in self.parked[sku]} & {n for n, _ in self.lines[sku]}, set()),
            ("L6 claims", self.items.get(f"{sku}:claims", 0), claims),
            ("U3 back", self.items.get(f"{sku}:back", 0), sum(each.quantity for each in waiting.values() if each.back)),
            (
                f"served {served}",
                [n for n, each in waiting.items() if self._of_today(each) and not each.back and each.number <= served],
                [],
            ),
        ]

    def _of_today(self, ticket: TicketRecord) -> bool:
        return ticket.arrival >= int(self.meta["epoch"]) * ARRIVALS_AN_EPOCH

    def _units(self, sku: str) -> list[tuple[str, Any, Any]]:
        high, first, stock, target = (self.items[f"{sku}:{name}"] for name in ("high", "next", "stock", "target"))
        hands: dict[int, list[str]] = defaultdict(list)
        for name, ticket in self.tickets.items():
            for unit in ticket.units if ticket.sku == sku else ():
                hands[unit].append(f"{ticket.state} {name}")
        for hand, serials in (
            ("returned", self.returned[sku]),
            ("withdrawn", self.withdrawn[sku]),
            ("fresh", range(first, high + 1)),
        ):
            for serial in serials:
                hands[serial].append(hand)
        wrong = {serial: who for serial, who in hands.items() if len(who) != 1 or not 1 <= serial <= high}
        return [
            ("U1 units not in one hand each", wrong, {}),
            ("U1 units in no hand", set(range(1, high + 1)) - set(hands), set()),
            ("U3 stock", stock, target - len(self.withdrawn[sku])),
        ]
