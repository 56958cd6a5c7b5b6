"""What the model is made of: everything that a running sale holds, as values that never change.

One ``World`` is one instant of the whole system: Redis, Kafka, Postgres, the memory of each process, and what buyers
were told. Tickets are known by the index of the wish that made them, skus by their index, units by their serials.
"""

from typing import NamedTuple

from fairline.states import State

HALTED = -5  # a fence that no Redis has

Arrival = tuple[int, int]  # epoch, n (R1)
IN_ITS_ROW: Arrival = (-1, 0)  # of a ticket that only Postgres remembers: nobody stands in line there any more
Asked = tuple[int, int, frozenset[int], int]  # of a sku: stock, high, withdrawn, and the version of the operator's act


class Wish(NamedTuple):
    """One request to join. Its index is the ticket's id, as the request's id is in reality."""

    buyer: int
    sku: int = 0
    quantity: int = 1
    may_decline: bool = False  # the shop may say no
    mute: bool = False  # the shop never answers about this one
    poison: bool = False  # Postgres refuses its order for good, and the writer dies over it
    readmits: int | None = None  # nobody's request: made by the readmission of that ticket's dead letter (S2)


class Scenario(NamedTuple):
    """Bounds of one exploration. ``faults`` says how often each fault may strike."""

    wishes: tuple[Wish, ...]
    stocks: tuple[int, ...] = (1,)
    limit: int = 1
    capacity: int = 2
    max_tries: int = 2
    keep_line: bool = False
    acts: tuple[tuple[str, ...] | tuple[str, int, int], ...] = ()  # of the operator, in this order
    writers: int = 1
    recoveries: int = 1  # at a time
    faults: tuple[tuple[str, int], ...] = ()


class Ticket(NamedTuple):
    """A record in Redis. ``lease`` is 0 for none."""

    state: State
    arrival: Arrival
    lease: int = 0
    tries: int = 0
    back: bool = False
    units: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()
    too_few: bool = False  # declined because it wanted more than was left (Q1)
    seen: bool = True  # not so after a recovery, until its buyer shows up (D3)


class Item(NamedTuple):
    """The stock of one sku in Redis, by the names of ``fairline.store.keys``."""

    stock: int
    high: int
    target: int
    asked: int = 0
    version: int = 0
    first: int = 1  # `next` there
    returned: frozenset[int] = frozenset()
    withdrawn: frozenset[int] = frozenset()

    @property
    def free(self) -> int:
        return len(self.returned) + max(0, self.high - self.first + 1)

    @property
    def free_units(self) -> frozenset[int]:
        return self.returned | frozenset(range(self.first, self.high + 1))


class Order(NamedTuple):
    """``order.placed.v1``."""

    ticket: int
    units: tuple[int, ...]
    slots: tuple[int, ...]
    epoch: int


class Verdict(NamedTuple):
    """What Postgres decided of an order, and the result that tells it. ``reason`` is empty where it is confirmed."""

    ticket: int
    units: tuple[int, ...]
    slots: tuple[int, ...]
    reason: str = ""


class Change(NamedTuple):
    """``sale.changed.v1``: the whole sale, as it is to be."""

    version: int
    epoch: int
    state: str
    items: tuple[Asked, ...]


class Applied(NamedTuple):
    """``sale.applied.v1``."""

    version: int
    epoch: int


class Redis(NamedTuple):
    """One sale in Redis. A loss of data puts an older value of all of it in its place."""

    state: str
    version: int
    acked: int
    epoch: int
    seq: int
    fence: int  # the instance it was written on (D1)
    claim: tuple[int, int]  # the recovery that has the sale in hand, and on which instance (D2); 0 for none
    closing: bool  # told to Postgres, before it is so (E4)
    items: tuple[Item, ...]
    tickets: tuple[Ticket | None, ...]
    outbox: frozenset[Order | Change]
    last: tuple[Arrival, ...] = ()  # of each older epoch the last arrival that was found when the sale was rebuilt (D4)


class Postgres(NamedTuple):
    """One sale in Postgres. ``attempts`` are failed ones, per ticket (V6)."""

    epoch: int
    version: int
    changed: int  # the epoch of the last change that was taken over
    state: str
    items: tuple[Asked, ...]
    verdicts: tuple[Verdict | None, ...]
    attempts: tuple[int, ...]


class Writing(NamedTuple):
    """An order in the hands of a writer, after the transaction: what it must do next, and what it will tell."""

    order: Order
    next: str  # letter, result or offset (V5)
    verdict: Verdict | None


class Recovery(NamedTuple):
    """A recovery under way: its next step (claim, look, hold, raise, read, refill, install), and what it found."""

    next: str
    epoch: int
    claim: tuple[int, int]
    found: Postgres | None = None


class Told(NamedTuple):
    """The last outcome that a buyer was told of a ticket: after how many losses, and how many had joined by then."""

    state: State
    losses: int
    joined: int


class World(NamedTuple):
    """One instant of everything. The last four are only for the one who checks."""

    redis: Redis
    instance: int  # the identity of the Redis that runs
    disk: Redis | None  # what it will know after a loss
    old: frozenset[Order | Change]  # the outbox of a primary that was deposed and still relays
    deciding: frozenset[tuple[int, int]]  # (ticket, lease) in the hands of controllers
    orders: frozenset[Order]  # on Kafka, offset not committed
    results: frozenset[Verdict | Applied]
    changes: frozenset[Change]
    letters: frozenset[Order]  # the dead-letter topic
    log: frozenset[Order | Verdict]  # what was on Kafka before, as long as somebody may read it again
    postgres: Postgres
    writers: tuple[Writing | None, ...]
    recoveries: tuple[Recovery | None, ...]
    acted: int  # how many acts of the operator are done
    left: tuple[int, ...]  # faults that may still strike
    came: tuple[tuple[int, Arrival], ...]  # tickets in the true order of their joins, as their tokens say
    told: tuple[Told | None, ...]
    fault: str = ""  # what a step did that must not be


def start(scenario: Scenario) -> World:
    """An open sale that Postgres knows."""
    wanted = len(scenario.wishes)
    known = tuple((stock, stock, frozenset[int](), 0) for stock in scenario.stocks)
    return World(
        redis=Redis(
            state="open",
            version=1,
            acked=1,
            epoch=0,
            seq=0,
            fence=0,
            claim=(0, 0),
            closing=False,
            items=tuple(Item(stock, stock, stock) for stock in scenario.stocks),
            tickets=(None,) * wanted,
            outbox=frozenset(),
        ),
        instance=0,
        disk=None,
        old=frozenset(),
        deciding=frozenset(),
        orders=frozenset(),
        results=frozenset(),
        changes=frozenset(),
        letters=frozenset(),
        log=frozenset(),
        postgres=Postgres(0, 1, 0, "open", known, (None,) * wanted, (0,) * wanted),
        writers=(None,) * scenario.writers,
        recoveries=(None,) * scenario.recoveries,
        acted=0,
        left=tuple(times for _, times in scenario.faults),
        came=(),
        told=(None,) * wanted,
    )
