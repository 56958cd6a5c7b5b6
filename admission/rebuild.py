"""What a sale must be after Redis lost data: from what Redis still has, overruled by what Postgres decided (D3).

Pure: no I/O, no clock. Each record becomes what it would become again, so a rebuild that was cut off in the middle can
be done anew from wherever it came to.

    Postgres has an order of the ticket        CONFIRMED or RELEASED, whatever Redis says of it, lost or not
    Postgres knows it DECLINED or LAPSED       that, where Redis has it waiting, admitted or not at all
    terminal in Redis                          it stays
    RESERVED, its units sold to nobody else    it stays, with its units, and is sent again with the new epoch
    any other live ticket                      WAITING at its arrival, unseen: its buyer must come first
    Postgres knows it as a readmission         the same, where Redis has lost it and its buyer has no other

Units that are free are all serials without those sold, withdrawn or held. Nothing is counted that can be looked at.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from admission.records import Ended, Known
from fairline.counts import few
from fairline.events import ItemState, SaleChanged
from fairline.states import LIVE, State
from fairline.store.room import named_in
from fairline.store.scripts import TicketRecord
from fairline.store.tickets import UNSEEN

_PUT_BACK: Final = {State.ADMITTED, State.WAITING}  # a ticket there, of which Postgres knows the end, has ended


@dataclass(frozen=True)
class Found:
    """What Redis has left of a sale; all empty where it has nothing."""

    meta: Mapping[str, str] = field(default_factory=dict)
    items: Mapping[str, int] = field(default_factory=dict)
    withdrawn: Mapping[str, set[int]] = field(default_factory=dict)
    tickets: Mapping[str, TicketRecord] = field(default_factory=dict)


@dataclass
class Rebuilt:
    """What is to be written. ``tickets`` are those that change or were lost; everything else is whole."""

    meta: dict[str, str]
    items: dict[str, int]
    counts: dict[str, int]
    withdrawn: dict[str, set[int]]
    returned: dict[str, list[int]]
    tickets: dict[str, TicketRecord] = field(default_factory=dict)
    live: dict[str, str] = field(default_factory=dict)
    held: dict[str, list[int]] = field(default_factory=dict)
    reserved: list[str] = field(default_factory=list)
    waiting: list[tuple[str, str, int]] = field(default_factory=list)  # sku, ticket, arrival
    what: Counter[str] = field(default_factory=Counter)  # how many tickets were restored, overruled, ...


def rebuild(found: Found, known: Known, ended: Iterable[Ended], *, epoch: int) -> Rebuilt:
    """The sale under ``epoch``."""
    sale = _definition(found, known)
    skus = [item.sku for item in sale.items]
    tickets = dict(found.tickets)
    what: Counter[str] = Counter()
    orders = 0
    readmitted: list[Ended] = []
    for each in ended:
        if each.sku in skus:
            orders += each.order is not None
            _overrule(tickets, each, what)
            if each.readmitted_as is not None:
                readmitted.append(each)
    hands = _Hands(sale, tickets)
    for ticket_id, record in sorted(tickets.items(), key=lambda pair: pair[1].arrival):
        if record.state in LIVE:
            tickets[ticket_id] = _live(record, hands, what)
    _readmit(tickets, readmitted, hands, what)
    what["verdicts"] = orders
    new = Rebuilt(meta_of(known, sale, epoch), {}, {}, hands.withdrawn, {}, what=what)
    # No token up to this one is of a ticket that was lost (D4).
    if "seq" in found.meta and not _made_anew(found, known):
        new.meta[f"seq:{found.meta['epoch']}"] = found.meta["seq"]
    return _written(found, sale, tickets, hands, new)


def _definition(found: Found, known: Known) -> SaleChanged:
    """The newer of both. Stock that was asked for in Redis alone goes on sale when Postgres knows (U3)."""
    meta, sale = found.meta, known.sale
    if _made_anew(found, known) or int(meta.get("version", 0)) <= known.version or int(meta["epoch"]) < sale.epoch:
        return sale
    high = {item.sku: item.high for item in sale.items}
    return msgspec.structs.replace(
        sale,
        version=int(meta["version"]),
        state=meta["state"],
        name=meta["name"],
        rate_per_s=float(meta["rate"]) if meta["rate"] else None,
        capacity=int(meta["capacity"]) if meta["capacity"] else None,
        opens_at_ms=int(meta["opens_at_ms"]) if meta["opens_at_ms"] else None,
        ends_at_ms=int(meta["ends_at_ms"]) if meta["ends_at_ms"] else None,
        message=meta["message"],
        when_sold_out=meta["when_sold_out"],
        validator=meta["validator"],
        items=tuple(
            ItemState(
                sku=sku,
                name=name,
                stock=found.items[f"{sku}:stock"],
                high=min(found.items[f"{sku}:target"], high[sku]),
                version=found.items[f"{sku}:version"],
                withdrawn=tuple(sorted(found.withdrawn.get(sku, ()))),
            )
            for sku, name in named_in(meta["skus"])
        ),
    )


def _made_anew(found: Found, known: Known) -> bool:
    """Whether Redis has another sale of this id than Postgres, made where that was lost. It was never open (O4)."""
    created, lost = found.meta.get("created_ms"), known.sale.created_at_ms
    return bool(created) and lost is not None and int(created or 0) != lost


def _overrule(tickets: dict[str, TicketRecord], ended: Ended, what: Counter[str]) -> None:
    record = tickets.get(ended.ticket_id)
    if ended.order is None and record is not None and record.state not in _PUT_BACK:
        return
    if record is None:
        if ended.arrival is None:  # an order of which hardly anything could be read: nobody has such a ticket
            return
        record = _lost(ended)
        what["restored"] += 1
    elif record.state != ended.outcome:
        what["overruled"] += 1
    confirmed = ended.order is not None and ended.order.verdict == "confirmed"
    units, slots = (ended.order.units, ended.order.slots) if ended.order is not None and confirmed else ((), ())
    tickets[ended.ticket_id] = msgspec.structs.replace(
        record,
        state=ended.outcome,
        reason="" if confirmed else ended.reason,
        quantity=len(units) or record.quantity,
        units=units,
        slots=slots,
        lease="",
    )


def _readmit(
    tickets: dict[str, TicketRecord], readmitted: Iterable[Ended], hands: "_Hands", what: Counter[str]
) -> None:
    """Make new tickets again that were lost, on the terms of ``readmit.lua``; the end of the sale tells them theirs."""
    live = {who(record) for record in tickets.values() if record.state in LIVE}
    for each in sorted(readmitted, key=lambda each: each.arrival or 0):
        # Of an order that could not be read Postgres has neither buyer nor place: only its token brings it back (D4).
        if each.readmitted_as is None or each.readmitted_as in tickets or not (each.buyer_id and each.arrival):
            continue
        lost = _lost(each)
        if who(lost) in live or not hands.may_take(lost):
            continue
        live.add(who(lost))
        tickets[each.readmitted_as] = msgspec.structs.replace(lost, state=State.WAITING.value, lease=UNSEEN, back=1)
        what.update(("restored", "in_line"))


def _lost(ended: Ended) -> TicketRecord:
    return TicketRecord(
        state=ended.outcome,
        sku=ended.sku,
        buyer=ended.buyer_id,
        quantity=max(1, ended.quantity),
        arrival=ended.arrival or 0,
        number=(ended.order.number if ended.order else None) or 0,
        lease="",
        tries=0,
        back=0,
        units=(),
        slots=(),
        reason="",
        joined_ms=ended.at_ms,
        changed_ms=ended.at_ms,
        sends=0,
    )


class _Hands:
    """Which serials and slots are taken, and by whom there may still be taken any."""

    def __init__(self, sale: SaleChanged, tickets: Mapping[str, TicketRecord]) -> None:
        self.high = {item.sku: item.high for item in sale.items}
        self.withdrawn = {item.sku: set(item.withdrawn) for item in sale.items}
        self.taken: dict[str, set[int]] = defaultdict(set)
        self.slots: dict[str, set[int]] = defaultdict(set)
        self._limit = sale.per_buyer_limit
        for record in tickets.values():
            if record.state == State.CONFIRMED:
                self._take(record, record.slots)

    def keep(self, record: TicketRecord) -> tuple[int, ...] | None:
        """Let a RESERVED ticket keep its units, and the slots that it has then; nothing where it cannot."""
        sku, units = record.sku, set(record.units)
        gone = self.taken[sku] | self.withdrawn[sku]
        if not units or units & gone or max(units) > self.high[sku]:
            return None
        of_buyer = self.slots[who(record)]
        slots: tuple[int, ...] = record.slots
        if of_buyer & set(slots):  # another order of the buyer has one of them: these are as good
            slots = tuple(slot for slot in range(1, self._limit + 1) if slot not in of_buyer)[: len(units)]
        if len(slots) != len(units):
            return None
        self._take(record, slots)
        return slots

    def may_take(self, record: TicketRecord) -> bool:
        """Whether the buyer may have so many more."""
        return len(self.slots[who(record)]) + record.quantity <= self._limit

    def _take(self, record: TicketRecord, slots: Iterable[int]) -> None:
        self.taken[record.sku] |= set(record.units)
        self.slots[who(record)] |= set(slots)


def who(record: TicketRecord) -> str:
    """How the hashes of buyers name one."""
    return f"{record.sku}:{record.buyer}"


def _live(record: TicketRecord, hands: _Hands, what: Counter[str]) -> TicketRecord:
    if record.state == State.RESERVED:
        slots = hands.keep(record)
        if slots is not None:
            what["kept"] += 1
            return record if slots == record.slots else msgspec.structs.replace(record, slots=slots)
    what["in_line"] += 1
    if record.state == State.WAITING:
        return msgspec.structs.replace(record, lease=UNSEEN)
    return msgspec.structs.replace(
        record, state=State.WAITING.value, lease=UNSEEN, units=(), slots=(), reason="", back=1, sends=0
    )


def _written(
    found: Found,
    sale: SaleChanged,
    tickets: Mapping[str, TicketRecord],
    hands: _Hands,
    new: Rebuilt,
) -> Rebuilt:
    counts: Counter[str] = Counter()
    declined: dict[str, Counter[str]] = defaultdict(Counter)
    back: Counter[str] = Counter()
    for ticket_id, record in tickets.items():
        counts.update((f"{record.sku}:joined", f"{record.sku}:{record.state}"))
        if record.state == State.DECLINED:
            declined[record.sku][record.reason] += 1
        if record.state in LIVE:
            new.live[who(record)] = ticket_id
        if record.state == State.RESERVED:
            new.reserved.append(ticket_id)
        elif record.state == State.WAITING:
            new.waiting.append((record.sku, ticket_id, record.arrival))
            back[record.sku] += record.quantity if record.back else 0
        if record != found.tickets.get(ticket_id):
            new.tickets[ticket_id] = record
    new.held = {buyer: sorted(slots) for buyer, slots in hands.slots.items() if slots}
    for item in sale.items:
        sku = item.sku
        gone = hands.taken[sku] | hands.withdrawn[sku]
        first = max(gone, default=0) + 1
        new.returned[sku] = [serial for serial in range(1, min(first, item.high + 1)) if serial not in gone]
        target = item.stock + len(item.withdrawn)
        new.items |= {
            f"{sku}:{name}": number
            for name, number in {
                "stock": item.stock,
                "version": item.version,
                "high": item.high,
                "target": target,
                "asked": sale.version + 1,
                "next": first,
                "number": 0,
                "served": 0,
                "claims": 0,
                "back": back[sku],
            }.items()
        }
        new.counts |= {f"{sku}:{name}": counts.pop(f"{sku}:{name}", 0) for name in (*State, "joined")}
    new.counts |= counts
    for sku, reasons in declined.items():
        new.counts |= {f"{sku}:DECLINED:{reason}": number for reason, number in few(reasons).items()}
    return new


def meta_of(known: Known, sale: SaleChanged, epoch: int) -> dict[str, str]:
    """The fields of ``meta`` under this epoch, but for the fence and the pace."""
    return {
        "sale_id": sale.sale_id,
        "name": sale.name,
        "skus": msgspec.json.encode([(item.sku, item.name) for item in sale.items]).decode(),
        "per_buyer_limit": str(sale.per_buyer_limit),
        "rate": "" if sale.rate_per_s is None else repr(float(sale.rate_per_s)),
        "capacity": _text(sale.capacity),
        "opens_at_ms": _text(sale.opens_at_ms),
        "ends_at_ms": _text(sale.ends_at_ms),
        "message": sale.message,
        "when_sold_out": sale.when_sold_out,
        "validator": sale.validator,
        "created_ms": _text(sale.created_at_ms),
        # Closed again by itself, once nothing is under way: what is found now may be.
        "state": "ended" if sale.state in {"closed", "archived"} else sale.state,
        "epoch": str(epoch),
        "seq": "0",
        "version": str(sale.version),
        "acked": str(known.version),
    }


def _text(number: int | None) -> str:
    return "" if number is None else str(number)
