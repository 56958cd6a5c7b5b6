"""The eight invariants of the design ("What must hold"), judged from outside.

Pure: the crowd's own log, what Redis and Postgres held, and what was sampled in between go in; one finding for each
invariant comes out, with its evidence or with what breaks it. Nothing that a service says of itself is believed, and
a finding that had nothing to go by says so. Every checker can fail: ``tests/unit/demo`` doctors the evidence of each.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from fairline.demo.log import JOINED, LIVE, NO_ANSWER, Held, Log
from fairline.demo.order import faults_of_order, faults_of_pace
from fairline.demo.watch import RedisView, Row, Seen
from fairline.ids import ticket_id_for
from fairline.sale import SaleDefinition
from fairline.states import LIVE as LIVE_STATES
from fairline.states import State

_MOST_SHOWN: Final = 3
_REFUSALS: Final = frozenset({"sold_out", "already_bought", "over_limit", "sale_closed", "line_full"})


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of one sale. ``opened_s`` is a moment before the sale was opened."""

    sale: SaleDefinition
    log: Log
    seen: Seen
    redis: RedisView
    rows: list[Row]
    opened_s: float

    @property
    def stock(self) -> dict[str, int]:
        """Units by sku; the demo never changes them."""
        return {item.sku: item.stock for item in self.sale.items}

    def tickets(self, sku: str) -> list[Held]:
        """The crowd's tickets of a sku."""
        return [held for held in self.log.tickets.values() if held.sku == sku]


@dataclass(frozen=True)
class Finding:
    """One invariant: does it hold, and what shows it."""

    name: str
    ok: bool
    evidence: str


def judge(evidence: Evidence) -> list[Finding]:
    """A finding for each invariant, in the design's order."""
    return [check(evidence) for check in CHECKS]


def never_oversold(e: Evidence) -> Finding:
    """1: rows and units never exceed the stock, nor did anything held and sold together at any sample."""
    faults = []
    for sku, stock in e.stock.items():
        units = [row.unit for row in e.rows if row.sku == sku]
        told = [unit for held in e.tickets(sku) for unit in held.units]
        if len(units) > stock:
            faults.append(f"{sku}: {len(units)} rows for {stock} units")
        faults += [f"{sku}: unit {unit} does not exist" for unit in {*units, *told} if not 1 <= unit <= stock]
        faults += [f"{sku}: unit {unit} has {n} rows" for unit, n in Counter(units).items() if n > 1]
        faults += [f"{sku}: unit {unit} was told to {n} tickets" for unit, n in Counter(told).items() if n > 1]
        for sample in e.seen.samples:
            states = sample.skus[sku].states
            held = sum(states[state] for state in (State.ADMITTED, State.RESERVED, State.CONFIRMED))
            if held > stock:
                faults.append(f"{sku}: {held} tickets held or claimed one of {stock} units at one moment")
                break
    good = f"{len(e.rows):,} rows for {sum(e.stock.values()):,} units, each unit at most once"
    return _finding("never oversold", faults, f"{good}; held and sold never above the stock in {_samples(e)}")


def never_undersold(e: Evidence) -> Finding:
    """2: nobody went away empty while a unit was left, and every unit is either sold or free."""
    faults = []
    empty = 0
    for sku, stock in e.stock.items():
        sold = sum(row.sku == sku for row in e.rows)
        refused = sum(call.sku == sku and call.word == "sold_out" for call in e.log.calls)
        told = sum(held.state == State.SOLD_OUT for held in e.tickets(sku))
        waiting = sum(held.state in LIVE_STATES for held in e.tickets(sku))
        empty += refused + told
        if sold < stock and refused + told + waiting:
            faults.append(
                f"{sku}: {stock - sold} units unsold, yet {refused + told} were told that all are gone "
                f"and {waiting} still wait"
            )
        if e.redis.left[sku] != stock - sold:
            faults.append(f"{sku}: {stock - sold} units unsold, but {e.redis.left[sku]} free in Redis")
    sold = len(e.rows)
    good = f"{sold:,} of {sum(e.stock.values()):,} units sold, {empty:,} requests were told that all are gone"
    return _finding("never undersold", faults, f"{good}; no unit is neither sold nor free")


def one_outcome(e: Evidence) -> Finding:
    """3: every request was answered, every ticket was told one end, the same everywhere and for good."""
    faults = [
        f"{n} requests ended with {word}"
        for word, n in e.log.answers().items()
        if word not in _REFUSALS | {JOINED, LIVE}
    ]
    rows = {row.ticket_id for row in e.rows}
    for held in e.log.tickets.values():
        ends = [told for told in held.told if told.final]
        faults += [f"ticket {held.ticket_id} {trouble}" for trouble in held.trouble]
        record = e.redis.tickets.get(held.ticket_id)
        end = held.outcome
        if end is None:
            faults.append(f"ticket {held.ticket_id} was told no outcome; last {held.state}")
            continue
        if len({(told.state, told.reason) for told in ends}) > 1:
            said = sorted({f"{told.state} ({told.reason})" if told.reason else told.state for told in ends})
            faults.append(f"ticket {held.ticket_id} was told {' and '.join(said)}")
        if len({told.units for told in ends if told.units is not None}) > 1:
            faults.append(f"ticket {held.ticket_id} was told different units")
        after = held.told[held.told.index(end) :]
        if any(not told.final for told in after):
            faults.append(f"ticket {held.ticket_id} was told {end.state} and later {after[-1].state}")
        if record is None or record.state != end.state:
            faults.append(f"ticket {held.ticket_id} was told {end.state}, Redis has {record and record.state}")
        if (end.state == State.CONFIRMED) != (held.ticket_id in rows):
            faults.append(f"ticket {held.ticket_id} was told {end.state}, Postgres says otherwise")
    good = f"{len(e.log.tickets):,} tickets, each told one end, the same by WebSocket, status, Redis and Postgres"
    return _finding("one outcome", faults, f"{good}; {len(e.log.calls):,} requests, each answered")


def no_lost_order(e: Evidence) -> Finding:
    """4: told CONFIRMED = a row with that unit and buyer, both ways; nothing half done is left."""
    told = {(held.ticket_id, held.sku, held.buyer_id, unit) for held in e.log.tickets.values() for unit in held.units}
    written = {(row.ticket_id, row.sku, row.buyer_id, row.unit) for row in e.rows}
    faults = [
        f"{buyer} was told unit {unit} of {sku}, which is not in Postgres" for _, sku, buyer, unit in told - written
    ]
    faults += [f"unit {unit} of {sku} is in Postgres, {buyer} was not told" for _, sku, buyer, unit in written - told]
    reserved = sum(record.state == State.RESERVED for record in e.redis.tickets.values())
    if reserved:
        faults.append(f"{reserved} orders are neither confirmed nor released")
    if e.redis.outbox:
        faults.append(f"{e.redis.outbox} facts have not left for Kafka")
    released = sum(held.state == State.RELEASED for held in e.log.tickets.values())
    good = f"{len(told)} units told CONFIRMED are the {len(written)} rows in Postgres"
    return _finding("no lost order", faults, f"{good}, {released} orders released; no order is half done")


def in_order(e: Evidence) -> Finding:
    """5: who was answered first stands first, and admission went by arrival."""
    faults = faults_of_order(e.log, e.seen)
    places = sum(len(held.places) for held in e.log.tickets.values())
    shown = f"admissions of {len(e.seen.moved)} tickets" if e.seen.listened else "outcomes only (the channel was lost)"
    good = f"arrivals follow the answers of {len(e.log.tickets)} joins, {shown} follow the arrivals of each item"
    return _finding("in order", faults, f"{good}; of {places} places told, none grew")


def never_faster(e: Evidence) -> Finding:
    """6: no stretch of time has more admissions than the pace gives, and no sample more leases than the capacity."""
    rate, capacity = e.sale.rate_per_s, e.sale.capacity
    if rate is None and capacity is None:
        return Finding("never faster than told", ok=True, evidence="no limit was set")
    faults, tightest = faults_of_pace(e.log, rate=rate, opened_s=e.opened_s)
    most = max((sample.in_flight for sample in e.seen.samples), default=0)
    if capacity is not None and most > capacity:
        faults.append(f"{most} were admitted at one moment, capacity is {capacity}")
    good = []
    if rate is not None:
        good.append(f"{rate:g}/s: {tightest}")
    if capacity is not None:
        good.append(f"at most {most} of {capacity} admitted at a time in {_samples(e)}")
    return _finding("never faster than told", faults, "; ".join(good))


def one_per_buyer(e: Evidence) -> Finding:
    """7: no buyer has more units of a sku than the limit, in Postgres, in Redis or in what was told."""
    limit = e.sale.per_buyer_limit
    written = Counter((row.buyer_id, row.sku) for row in e.rows)
    told = Counter((held.buyer_id, held.sku) for held in e.log.tickets.values() for _ in held.units)
    faults = [f"{buyer} has {n} units of {sku} in Postgres" for (buyer, sku), n in written.items() if n > limit]
    faults += [f"{buyer} was told {n} units of {sku}" for (buyer, sku), n in told.items() if n > limit]
    if e.redis.most_slots > limit:
        faults.append(f"a buyer holds {e.redis.most_slots} units of an item in Redis")
    asked = max(Counter((call.buyer_id, call.sku) for call in e.log.calls).values(), default=0)
    most = max(written.values(), default=0)
    return _finding(
        "one per buyer", faults, f"at most {most} of {limit} units a buyer and item, asked for up to {asked} times"
    )


def nothing_in_secret(e: Evidence) -> Finding:
    """8: joined = all states, at every sample and in the records; Redis knows the crowd's tickets and no others."""
    faults = []
    for sample in e.seen.samples:
        for sku, counts in sample.skus.items():
            if counts.joined != sum(counts.states.values()):
                faults.append(f"{sku}: {counts.joined} joined, {sum(counts.states.values())} counted at one moment")
    for sku, counts in e.redis.counts.items():
        scanned = Counter(record.state for record in e.redis.tickets.values() if record.sku == sku)
        if counts.joined != sum(counts.states.values()):
            faults.append(f"{sku}: {counts.joined} joined, but the states add up to {sum(counts.states.values())}")
        faults += [
            f"{sku}: {counts.states[state]} counted as {state}, {scanned[state]} found"
            for state in counts.states
            if counts.states[state] != scanned[state]
        ]
    ours = set(e.log.tickets)
    unheard = set(_unheard(e))  # of requests whose every answer was lost
    faults += [f"ticket {ticket_id} is not in Redis" for ticket_id in ours - set(e.redis.tickets)]
    faults += [
        f"Redis has a ticket {ticket_id} that nobody asked for" for ticket_id in set(e.redis.tickets) - ours - unheard
    ]
    good = f"{len(ours)} joined = the sum of all states = the records found"
    return _finding("nothing in secret", faults, f"{good}, also in {_samples(e)} on the way")


CHECKS: Final[tuple[Callable[[Evidence], Finding], ...]] = (
    never_oversold,
    never_undersold,
    one_outcome,
    no_lost_order,
    in_order,
    never_faster,
    one_per_buyer,
    nothing_in_secret,
)


def _unheard(e: Evidence) -> Iterator[str]:
    for call in e.log.calls:
        if call.word == NO_ANSWER or call.word not in _REFUSALS | {JOINED, LIVE}:
            yield ticket_id_for(e.sale.sale_id, call.sku, call.buyer_id, call.key)


def _samples(e: Evidence) -> str:
    return f"{len(e.seen.samples)} samples"


def _finding(name: str, faults: Iterable[str], good: str) -> Finding:
    faults = list(faults)
    if not faults:
        return Finding(name, ok=True, evidence=good)
    more = f"; and {len(faults) - _MOST_SHOWN} more" if len(faults) > _MOST_SHOWN else ""
    return Finding(name, ok=False, evidence="; ".join(faults[:_MOST_SHOWN]) + more)
