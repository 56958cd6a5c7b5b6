"""The facts that cross Kafka. Past tense, immutable, the version in the tag; readers ignore fields they do not know.

    topic      key        events
    orders     ticket_id  order.placed
    results    ticket_id  order.confirmed, order.failed
               sale_id    sale.applied, tickets.kept
    sales      sale_id    sale.changed, sale.counted
    tickets    ticket_id  ticket.declined, ticket.lapsed
               sale_id    tickets.archived

A key is never the sale of an order: one partition would take it all. Samples of each are contract tests
(``tests/contract/examples``); a change that breaks an old sample needs a new tag.
"""

from typing import Final, Literal

import msgspec

ORDERS: Final = "fairline.orders"
RESULTS: Final = "fairline.results"
SALES: Final = "fairline.sales"
TICKETS: Final = "fairline.tickets"
DEAD_LETTERS: Final = ".DLT"  # appended to a topic's name

FailureReason = Literal["unit_taken", "already_bought", "not_writable", "cancelled"]


class Fact(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    """Something that happened in one sale."""

    sale_id: str

    @property
    def topic(self) -> str:
        """Where this fact is published."""
        return _TOPICS[type(self)]

    @property
    def key(self) -> str:
        """What keeps its facts in order: the ticket, or the sale for facts of the sale."""
        return getattr(self, "ticket_id", self.sale_id)


class OrderPlaced(Fact, frozen=True, tag="order.placed.v1", kw_only=True):
    """Units were taken for a ticket; Postgres has still to say so. The order's id is the ticket's (V1)."""

    ticket_id: str
    sku: str
    buyer_id: str
    units: tuple[int, ...]
    slots: tuple[int, ...]
    epoch: int
    arrival: int
    number: int
    reserved_at_ms: int


class OrderDecided(Fact, frozen=True, kw_only=True):
    """What both verdicts of Postgres about an order say."""

    ticket_id: str
    sku: str
    buyer_id: str
    units: tuple[int, ...]
    slots: tuple[int, ...]
    decided_at_ms: int


class OrderConfirmed(OrderDecided, frozen=True, tag="order.confirmed.v1", kw_only=True):
    """The order is a row in Postgres."""


class OrderFailed(OrderDecided, frozen=True, tag="order.failed.v1", kw_only=True):
    """The order can never be written, and a row in Postgres says so (V4)."""

    reason: FailureReason


class ItemState(msgspec.Struct, frozen=True, kw_only=True):
    """The stock of one sku. ``high`` is the highest serial that may be sold, ``withdrawn`` those below it that may not.

    stock = high - number of withdrawn; ``version`` is the operator's own, of the last change of stock.
    """

    sku: str
    name: str
    stock: int
    high: int
    version: int
    withdrawn: tuple[int, ...] = ()


class SaleChanged(Fact, frozen=True, tag="sale.changed.v1", kw_only=True):
    """An operator (or the sale's own clock) changed a sale: the whole of it after the change, and what was done.

    ``version`` counts the changes of the sale, so that an older one is never applied over a newer one.
    ``created_at_ms`` tells it from a sale of the same id that was made anew where Redis had lost it; null: not known.
    """

    version: int
    epoch: int
    action: str
    reason: str
    state: str
    name: str
    per_buyer_limit: int
    rate_per_s: float | None = None
    capacity: int | None = None
    opens_at_ms: int | None = None
    ends_at_ms: int | None = None
    message: str
    when_sold_out: str
    validator: str
    items: tuple[ItemState, ...]
    created_at_ms: int | None = None
    at_ms: int


class SaleCounted(Fact, frozen=True, tag="sale.counted.v1", kw_only=True):
    """How many tickets of a sale stood where, at one instant: the fields of ``fairline.counts``.

    Most ends of a ticket are facts of their own; who asked, was refused, left or found all sold is only counted.
    """

    epoch: int
    counts: dict[str, int]
    at_ms: int


class SaleApplied(Fact, frozen=True, tag="sale.applied.v1", kw_only=True):
    """Postgres knows the sale up to this version (O4, U3): the one that was created then, where it knows when."""

    version: int
    epoch: int
    created_at_ms: int | None = None
    at_ms: int


class TicketEnded(Fact, frozen=True, kw_only=True):
    """What is said of a ticket whose life ended without an order."""

    ticket_id: str
    sku: str
    buyer_id: str
    quantity: int
    arrival: int
    reason: str
    at_ms: int


class TicketDeclined(TicketEnded, frozen=True, tag="ticket.declined.v1", kw_only=True):
    """The shop, the limit or the end of the sale said no to a ticket."""


class TicketLapsed(TicketEnded, frozen=True, tag="ticket.lapsed.v1", kw_only=True):
    """A ticket was admitted as often as it may be, and nobody decided about it in time (L5)."""


class KeptTicket(msgspec.Struct, frozen=True, kw_only=True):
    """How one ticket ended, at ``at_ms``: ``outcome`` is its terminal state."""

    ticket_id: str
    outcome: Literal["CONFIRMED", "DECLINED", "SOLD_OUT", "LEFT", "LAPSED", "RELEASED"]
    sku: str
    buyer_id: str
    quantity: int
    arrival: int
    reason: str
    at_ms: int


class TicketsArchived(Fact, frozen=True, tag="tickets.archived.v1", kw_only=True):
    """Tickets of a sale that was closed long ago, for the history; whoever keeps them answers with the batch (C2)."""

    batch: str
    tickets: tuple[KeptTicket, ...]


class TicketsKept(Fact, frozen=True, tag="tickets.kept.v1", kw_only=True):
    """Every ticket of this batch has its row in Postgres: Redis may forget them."""

    batch: str


AnyFact = (
    OrderPlaced
    | OrderConfirmed
    | OrderFailed
    | SaleChanged
    | SaleCounted
    | SaleApplied
    | TicketDeclined
    | TicketLapsed
    | TicketsArchived
    | TicketsKept
)

_TOPICS: Final[dict[type[Fact], str]] = {
    OrderPlaced: ORDERS,
    OrderConfirmed: RESULTS,
    OrderFailed: RESULTS,
    SaleApplied: RESULTS,
    SaleChanged: SALES,
    SaleCounted: SALES,
    TicketDeclined: TICKETS,
    TicketLapsed: TICKETS,
    TicketsArchived: TICKETS,
    TicketsKept: RESULTS,
}
TOPICS: Final = (ORDERS, RESULTS, SALES, TICKETS)

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(AnyFact)
_outbox: Final = msgspec.msgpack.Decoder(AnyFact)


def encode(fact: Fact) -> bytes:
    """The fact as it stands on Kafka: JSON."""
    return _encoder.encode(fact)


def decode(value: bytes) -> AnyFact:
    """A fact off Kafka; raises ``msgspec.DecodeError`` for what is no fact we know (a dead letter)."""
    fact: AnyFact = _decoder.decode(value)
    return fact


def from_outbox(entry: bytes) -> AnyFact:
    """A fact as a script put it into the outbox: MessagePack, because Lua's JSON rounds large numbers."""
    fact: AnyFact = _outbox.decode(entry)
    return fact
