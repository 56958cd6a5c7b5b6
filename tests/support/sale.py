"""One sale on a real Redis, driven script by script: no service, no Kafka, no Postgres, and no clock but Redis's.

Whoever plays Postgres here does it by hand: ``acknowledge`` is its answer to a change of the sale, ``confirm`` and
``release`` are its verdicts. Times are moved by moving the deadlines in Redis (``end_leases``), never by waiting.
"""

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from admission.stock import Admitted, CountReply, Stock, Verdict
from fairline.events import AnyFact, from_outbox
from fairline.ids import new_ticket_id, ticket_id_for
from fairline.sale import Item, SaleDefinition
from fairline.store import keys as names
from fairline.store.keys import SaleKeys
from fairline.store.replies import ChangeReply, LookReply, NumberReply, StatsReply
from fairline.store.room import Room
from fairline.store.sales import Action, Sales, fields_of
from fairline.store.scripts import TicketRecord
from fairline.store.tickets import Join, Ticket

A_MINUTE_MS: Final = 60_000
PLENTY: Final = 10_000
_OF: Final = (
    "amber",
    "brisk",
    "calm",
    "dusty",
    "eager",
    "fuzzy",
    "giant",
    "humble",
    "ivory",
    "jolly",
    "lucid",
    "merry",
)
_WHAT: Final = ("anvil", "banjo", "comet", "drum", "ember", "fiddle", "garnet", "harp", "lantern", "maple", "otter")


def a_name(*, of: str = "sale") -> str:
    """A name that nobody else has and that can be read out: ``merry-otter-sale-3f9a1c``."""
    # The end is not from ``random``, which starts every test with the same seed.
    return f"{random.choice(_OF)}-{random.choice(_WHAT)}-{of}-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class Grant:
    """What an admit call answered."""

    word: str
    tickets: list[Admitted]
    in_flight: int

    @property
    def ids(self) -> list[str]:
        """Of the tickets, in the order of admission."""
        return [each.ticket_id for each in self.tickets]


class SaleDriver:
    """A sale of ``stocks`` (sku -> units). Other words are fields of ``SaleDefinition``."""

    def __init__(self, redis: Redis, stocks: Mapping[str, int], **definition: Any) -> None:
        self.redis = redis
        self.room = Room(redis)
        self.sales = Sales(self.room)
        self.raw: Any = redis  # its stubs allow text, bytes and nothing for every reply; ours are bytes
        items = tuple(Item(sku=sku, name=sku.title(), stock=stock) for sku, stock in stocks.items())
        self.definition = SaleDefinition(
            **{"sale_id": a_name(), "name": "A sale of a test", "items": items} | definition,
        )
        self.id = self.definition.sale_id
        self.skus = tuple(stocks)
        self.keys = SaleKeys(self.id, self.skus)
        self.stock = Stock(redis, self.id, self.skus)

    def move_to(self, redis: Redis) -> None:
        """The same sale, on another Redis from now on."""
        self.redis = self.raw = redis
        self.room = Room(redis)
        self.sales = Sales(self.room)
        self.stock = Stock(redis, self.id, self.skus)

    @classmethod
    async def opened(cls, redis: Redis, stocks: Mapping[str, int] | int, **definition: Any) -> "SaleDriver":
        """A sale that Postgres knows and that is open; a number is the stock of its only sku, ``seat``."""
        sale = cls(redis, {"seat": stocks} if isinstance(stocks, int) else stocks, **definition)
        assert await sale.create() == "CREATED"
        await sale.acknowledge()
        assert (await sale.change("open")).word == "CHANGED"
        await sale.acknowledge()
        return sale

    async def remove(self) -> None:
        """Leave nothing of the sale in Redis."""
        found = [key async for key in self.raw.scan_iter(f"fairline:{{{self.id}}}:*")]
        await self.redis.delete(*found, self.keys.meta)
        await self.redis.srem(names.SALES, self.id)

    # What operators and Postgres do

    async def create(self) -> str:
        """CREATED or EXISTS."""
        return await self.sales.create(self.definition)

    async def change(self, action: Action, reason: str = "") -> ChangeReply:
        """Open, pause, resume or end it."""
        reply = await self.sales.change(self.id, action, reason)
        assert reply is not None
        return reply

    async def patch(self, **fields: object) -> ChangeReply:
        """Change fields of the definition."""
        new = fields_of(msgspec.structs.replace(self.definition, **fields))
        old = fields_of(self.definition)
        reply = await self.sales.patch(self.id, {name: new[name] for name in new if new[name] != old[name]})
        assert reply is not None
        self.definition = msgspec.structs.replace(self.definition, **fields)
        return reply

    async def set_stock(self, stock: int, *, version: int, sku: str | None = None) -> NumberReply:
        """Set the stock of a sku (the first one where none is named)."""
        reply = await self.sales.set_stock(
            self.id, sku or self.skus[0], stock=stock, version=version, reason="a test wants it"
        )
        assert reply is not None
        return reply

    async def acknowledge(self, version: int | None = None, *, epoch: int = 0) -> str:
        """Postgres knows the sale up to this version, or up to the last one."""
        if version is None:
            version = int(await self.raw.hget(self.keys.meta, "version"))
        return await self.stock.applied(version=version, epoch=epoch)

    # What buyers do

    async def ask(
        self,
        buyer: str,
        *,
        sku: str | None = None,
        quantity: int = 1,
        fewer: bool = False,
        key: str | None = None,
        max_waiting: int = PLENTY,
    ) -> tuple[str, Ticket | None]:
        """One join: its word and, where there is one, the ticket."""
        sku = sku or self.skus[0]
        ticket_id = new_ticket_id() if key is None else ticket_id_for(self.id, sku, buyer, key)
        [answer] = await self.room.join(
            self.id, [Join(ticket_id, sku, buyer, quantity, fewer)], max_waiting=max_waiting
        )
        return answer

    async def join(self, *buyers: str, sku: str | None = None, quantity: int = 1, fewer: bool = False) -> list[str]:
        """Take new buyers into the line, in this order; the ids of their tickets."""
        joins = [Join(new_ticket_id(), sku or self.skus[0], buyer, quantity, fewer) for buyer in buyers]
        answers = await self.room.join(self.id, joins, max_waiting=PLENTY)
        assert [word for word, _ in answers] == ["JOINED"] * len(buyers)
        return [ticket_id for ticket_id, *_ in joins]

    async def ticket(self, ticket_id: str, sku: str | None = None) -> Ticket:
        """As its buyer reads it."""
        [found] = await self.room.read(self.id, [(ticket_id, sku or self.skus[0])])
        assert found is not None
        return found

    # What admission does

    async def admit(
        self, most: int = PLENTY, *, lease: str | None = None, lease_ms: int = A_MINUTE_MS, outbox_limit: int = PLENTY
    ) -> tuple[str, Grant]:
        """Admit under a new lease, or again under a known one: the lease and the answer."""
        lease = lease or secrets.token_hex(8)
        reply = await self.stock.admit(lease, lease_ms=lease_ms, most=most, outbox_limit=outbox_limit)
        return lease, Grant(reply.word, reply.tickets, reply.in_flight)

    async def admitted(self, most: int = PLENTY, *, lease: str | None = None) -> list[str]:
        """Only the ids of those whom ``admit`` admits."""
        return (await self.admit(most, lease=lease))[1].ids

    async def reserve(self, lease: str, *ticket_ids: str, redrive_ms: int = A_MINUTE_MS) -> list[str]:
        """A word for each ticket."""
        return await self.stock.reserve(lease, ticket_ids, redrive_ms=redrive_ms)

    async def decline(self, lease: str, *ticket_ids: str, reason: str = "payment_declined") -> list[str]:
        """A word for each ticket."""
        return await self.stock.decline(lease, [(ticket_id, reason) for ticket_id in ticket_ids])

    async def give_back(self, lease: str, *ticket_ids: str) -> list[str]:
        """A word for each ticket."""
        return await self.stock.give_back(lease, ticket_ids)

    async def end_leases(self, *ticket_ids: str) -> None:
        """Move the deadlines of these admitted tickets into the past."""
        await self.redis.zadd(self.keys.leases, dict.fromkeys(ticket_ids, 0), xx=True)

    async def reap(self, most: int = PLENTY, *, max_tries: int = 3) -> tuple[int, int]:
        """How many tickets went back into the line, and how many lapsed."""
        reply = await self.stock.reap(most=most, max_tries=max_tries)
        return reply.count, reply.other

    async def redrive(
        self, most: int = PLENTY, *, redrive_ms: int = 30_000, longest_ms: int = 300_000, outbox_limit: int = PLENTY
    ) -> tuple[int, int]:
        """How many orders, and how many changes of the sale, were put into the outbox again."""
        reply = await self.stock.redrive(
            most=most, redrive_ms=redrive_ms, longest_ms=longest_ms, outbox_limit=outbox_limit
        )
        return reply.count, reply.other

    async def confirm(self, *ticket_ids: str) -> CountReply:
        """Postgres has the orders of these tickets as they were placed."""
        records = [(ticket_id, await self.record(ticket_id)) for ticket_id in ticket_ids]
        return await self.stock.settle(
            [Verdict(ticket_id, "confirm", each.units, each.slots, "") for ticket_id, each in records]
        )

    async def confirm_as(self, ticket_id: str, *, units: Sequence[int], slots: Sequence[int]) -> CountReply:
        """Postgres has an order of this ticket with these units and slots, whatever Redis thinks."""
        return await self.stock.settle([Verdict(ticket_id, "confirm", tuple(units), tuple(slots), "")])

    async def release(self, *ticket_ids: str, reason: str = "not_writable") -> CountReply:
        """Postgres refused the orders of these tickets for good."""
        records = [(ticket_id, await self.record(ticket_id)) for ticket_id in ticket_ids]
        return await self.stock.settle([Verdict(ticket_id, "release", (), (), reason) for ticket_id, each in records])

    async def sweep(self, most: int = PLENTY) -> int:
        """How many were told that everything is sold."""
        return await self.stock.sweep(most=most)

    async def close(self, most: int = PLENTY, *, outbox_limit: int = PLENTY) -> tuple[str, int]:
        """NOT_ENDED, ENDED or CLOSED, and how many were declined."""
        reply = await self.stock.close(most=most, outbox_limit=outbox_limit)
        return reply.word, reply.count

    async def closed(self) -> str:
        """What the last of the calls says that close a sale of which nothing is under way: Postgres is told between."""
        assert await self.close() == ("ENDED", 0)
        await self.relay()
        await self.acknowledge()
        return (await self.close())[0]

    async def archive(
        self,
        batch: str = "batch",
        *,
        most: int = PLENTY,
        keep_ms: int = 0,
        again_ms: int = A_MINUTE_MS,
        outbox_limit: int = PLENTY,
    ) -> str:
        """One step on the way of a closed sale to Postgres."""
        return await self.stock.archive(batch, most=most, keep_ms=keep_ms, again_ms=again_ms, outbox_limit=outbox_limit)

    async def relay(self) -> list[AnyFact]:
        """Take everything out of the outbox, as if Kafka had acknowledged it."""
        entries = await self.raw.xrange(self.keys.outbox)
        if entries:
            await self.raw.xdel(self.keys.outbox, *(entry_id for entry_id, _ in entries))
        return [from_outbox(fields[b"fact"]) for _, fields in entries]

    # Several steps at once

    async def reserved(self, *buyers: str, sku: str | None = None, quantity: int = 1) -> list[str]:
        """New buyers who join, are admitted and reserve. Everybody else in line would be admitted too."""
        ticket_ids = await self.join(*buyers, sku=sku, quantity=quantity)
        lease, grant = await self.admit()
        assert set(grant.ids) == set(ticket_ids)
        assert await self.reserve(lease, *ticket_ids) == ["RESERVED"] * len(ticket_ids)
        return ticket_ids

    async def sold(self, *buyers: str, sku: str | None = None, quantity: int = 1) -> list[str]:
        """New buyers who get what they ask for, to the end."""
        ticket_ids = await self.reserved(*buyers, sku=sku, quantity=quantity)
        await self.confirm(*ticket_ids)
        return ticket_ids

    # What lies in Redis

    async def record(self, ticket_id: str) -> TicketRecord:
        """The ticket as it is stored."""
        packed = await self.raw.hget(self.keys.tickets, ticket_id)
        assert packed is not None, "no such ticket"
        return msgspec.msgpack.decode(packed, type=TicketRecord)

    async def states(self, *ticket_ids: str) -> list[str]:
        """Of these tickets."""
        return [(await self.record(ticket_id)).state for ticket_id in ticket_ids]

    async def item(self, field: str, sku: str | None = None) -> int:
        """One number of the ``items`` hash."""
        return int(await self.raw.hget(self.keys.items, f"{sku or self.skus[0]}:{field}") or 0)

    async def count(self, field: str, sku: str | None = None) -> int:
        """One number of the ``counts`` hash."""
        return int(await self.raw.hget(self.keys.counts, f"{sku or self.skus[0]}:{field}") or 0)

    async def look(self) -> LookReply:
        """How the sale stands."""
        seen = await self.room.look(self.id)
        assert seen is not None
        return seen

    async def stats(self) -> StatsReply:
        """All counts."""
        stats = await self.room.stats(self.id)
        assert stats is not None
        return stats

    async def outlook(self, sku: str | None = None) -> str:
        """Of a sku, as everybody is told."""
        return (await self.look()).rows[self.skus.index(sku or self.skus[0])].outlook

    async def line(self, sku: str | None = None) -> list[str]:
        """The tickets that wait, the next to go first."""
        return [each.decode() for each in await self.raw.zrange(self.keys.line[self._at(sku)], 0, -1)]

    async def leased(self) -> list[str]:
        """The tickets that are admitted."""
        return [each.decode() for each in await self.raw.zrange(self.keys.leases, 0, -1)]

    async def returned(self, sku: str | None = None) -> list[int]:
        """The serials that came back."""
        return [int(each) for each in await self.raw.zrange(self.keys.returned[self._at(sku)], 0, -1)]

    async def withdrawn(self, sku: str | None = None) -> set[int]:
        """The serials that were taken off sale."""
        return {int(each) for each in await self.raw.smembers(self.keys.withdrawn[self._at(sku)])}

    def _at(self, sku: str | None) -> int:
        return self.skus.index(sku or self.skus[0])
