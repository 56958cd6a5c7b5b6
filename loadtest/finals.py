"""What Redis, Kafka and Postgres hold of one sale in the end: one plain struct, which an evidence folder keeps as JSON.

``loadtest.read_finals`` reads it from the servers; ``save`` and ``load`` keep it.
"""

from pathlib import Path

import msgspec

from fairline import events


class FinalsError(Exception):
    """The contents cannot be read: what is away or missing, and what to do."""


class Ticket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A ticket's record in Redis. ``back``: it was admitted before and waits, or waited, once more.

    ``unseen``: its sale was rebuilt and its buyer has not come since (D3). ``sends``: how often its order was sent.
    """

    state: str
    sku: str
    buyer_id: str
    quantity: int = 1
    arrival: int
    number: int = 0
    tries: int = 0
    sends: int = 0
    back: bool = False
    unseen: bool = False
    units: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()
    reason: str = ""
    joined_ms: int = 0
    changed_ms: int = 0


class Item(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sku in Redis: serials 1 to ``high``, of which those from ``first_fresh`` on were never taken.

    ``target`` is what ``high`` becomes once Postgres knows of more stock.
    """

    stock: int
    high: int
    target: int
    first_fresh: int
    returned: tuple[int, ...] = ()
    withdrawn: tuple[int, ...] = ()
    counts: dict[str, int] = {}
    line: tuple[str, ...] = ()

    def free(self) -> set[int]:
        """The serials that nobody holds."""
        return {*self.returned, *range(self.first_fresh, self.high + 1)}


class RedisSide(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The sale in Redis. ``halted``: its fence does not hold (D1). ``held`` is SKU:buyer -> slots.

    ``outbox`` counts the facts that Kafka does not have, but for the counts that are sent every few seconds.
    """

    state: str
    epoch: int
    halted: bool = False
    per_buyer_limit: int
    rate_per_s: float | None = None
    capacity: int | None = None
    when_sold_out: str = "close_line"
    items: dict[str, Item]
    tickets: dict[str, Ticket]
    aliases: dict[str, str] = {}
    held: dict[str, tuple[int, ...]] = {}
    leases: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()
    outbox: int = 0


class Letter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A dead letter of this sale. ``ticket_id`` is what it says itself, or where it cannot be read, its key."""

    topic: str
    ticket_id: str
    reason: str = ""


class KafkaSide(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every fact of the sale that Kafka still has, in the order of each partition; a redelivery stands here twice."""

    orders: tuple[events.OrderPlaced, ...] = ()
    results: tuple[events.OrderConfirmed | events.OrderFailed, ...] = ()
    ended: tuple[events.TicketDeclined | events.TicketLapsed, ...] = ()
    sales: tuple[events.SaleChanged, ...] = ()
    dead: tuple[Letter, ...] = ()


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A verdict in Postgres."""

    sku: str
    buyer_id: str
    verdict: str
    reason: str | None = None
    units: tuple[int, ...] = ()
    epoch: int | None = None


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A unit that Postgres says is sold. What is off sale has no ticket and is not listed."""

    sku: str
    unit: int
    buyer_id: str
    ticket_id: str
    slot: int


class PostgresSide(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The sale in Postgres. ``stock`` and ``high`` by sku; ``history`` is ticket -> outcome."""

    epoch: int
    stock: dict[str, int]
    high: dict[str, int]
    orders: dict[str, Row] = {}
    units: tuple[Unit, ...] = ()
    history: dict[str, str] = {}


class Finals(msgspec.Struct, frozen=True, kw_only=True):
    """All three."""

    sale_id: str
    redis: RedisSide
    kafka: KafkaSide
    postgres: PostgresSide


def save(finals: Finals, path: Path) -> None:
    """Keep it as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(finals)) + b"\n")


def load(path: Path) -> Finals:
    """What ``save`` kept; raises ``FinalsError``."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Finals)
    except (OSError, msgspec.DecodeError) as error:
        raise FinalsError(f"{path} holds no contents of a sale: {error}") from error
