"""The waiting room of a sale as the services see it: join, read, leave, look, statistics.

All calls are scripts, so each is one atomic step; all raise ``FencedError`` while the sale is halted (D1) and
``UnavailableError`` when Redis does not answer. A sale that Redis does not know may be lost, which is ``FencedError``
too, until this Redis is known to have every sale. The skus of a sale never change while Redis has it, so they are kept,
and read again when ``look`` finds others.
"""

from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from fairline.errors import FencedError
from fairline.ids import readmission_of
from fairline.store import keys as names
from fairline.store.client import answering
from fairline.store.keys import SaleKeys
from fairline.store.replies import JoinReply, LeaveReply, LookReply, NumberReply, ReadReply, StatsReply, WordReply
from fairline.store.scripts import Script
from fairline.store.tickets import Join, Shown, Ticket, ticket_of


class Room:
    """The waiting rooms of all sales in one Redis."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._skus: dict[str, tuple[tuple[str, str], ...]] = {}
        self._join = Script("fairline.store", "join", JoinReply)
        self._read = Script("fairline.store", "read", ReadReply)
        self._show = Script("fairline.store", "show", JoinReply)
        self._look = Script("fairline.store", "look", LookReply)
        self._stats = Script("fairline.store", "stats", StatsReply)
        self._leave = Script("fairline.store", "leave", LeaveReply)
        self._readmit = Script("fairline.store", "readmit", WordReply)
        self._tally = Script("fairline.store", "tally", NumberReply)

    async def sale_ids(self) -> list[str]:
        """The sales that are served, in the order of their ids. Closed ones stay until they are archived."""
        with answering():
            found = await self.redis.smembers(names.SALES)
        return sorted(each.decode() if isinstance(each, bytes) else each for each in found)

    async def is_closed(self, sale_id: str) -> bool:
        """Whether the sale says that it is closed, halted or not."""
        with answering():
            state = await self.redis.hget(SaleKeys(sale_id).meta, "state")
        return state in (b"closed", "closed")

    async def instance(self) -> str:
        """The identity of the Redis that answers now (D1)."""
        with answering():
            return str((await self.redis.info("replication"))["master_replid"])

    async def is_whole(self, *, as_of: str | None = None) -> bool:
        """Whether this Redis, or that one, is known to have every sale of Postgres, if only as a halted one."""
        with answering():
            known = await self.redis.get(names.WHOLE)
        return known == (as_of or await self.instance()).encode()

    async def say_whole(self, instance: str) -> None:
        """Note that the Redis of this identity has. Forgotten with all that it has, and with every restart."""
        with answering():
            await self.redis.set(names.WHOLE, instance)

    async def look_begins(self, instance: str, *, within_s: int) -> str:
        """Before it is looked whether this Redis has every sale: what to end the look with."""
        look = names.a_look()
        with answering():
            await self.redis.set(look, instance, ex=within_s)
        return look

    async def look_ends(self, look: str) -> bool:
        """Note that it has; nothing is noted of a Redis that was emptied since the look began, or that is another."""
        with answering():
            try:
                await self.redis.rename(look, names.WHOLE)  # one step, and only where there still is what began it
            except ResponseError as error:
                if "no such key" in str(error):
                    return False
                raise
            await self.redis.persist(names.WHOLE)
        return True

    async def named_skus(self, sale_id: str) -> tuple[tuple[str, str], ...] | None:
        """(sku, name) of a sale in the operator's order; nothing for a sale that Redis does not know."""
        if sale_id not in self._skus:
            with answering():
                text = await self.redis.hget(SaleKeys(sale_id).meta, "skus")
            if text is None:
                return None
            self._skus[sale_id] = named_in(text)
        return self._skus[sale_id]

    async def skus(self, sale_id: str) -> tuple[str, ...] | None:
        """The skus of a sale; nothing for a sale that Redis does not know."""
        named = await self.named_skus(sale_id)
        return None if named is None else tuple(sku for sku, _ in named)

    async def known_skus(self, sale_id: str) -> tuple[str, ...] | None:
        """The same; nothing only where there is no such sale. Raises ``FencedError`` where it may be lost."""
        skus = await self.skus(sale_id)
        if skus is None and not await self.is_whole():
            raise FencedError
        return skus

    async def join(self, sale_id: str, joins: Sequence[Join], *, max_waiting: int) -> list[tuple[str, Ticket | None]]:
        """Take these into the line, in this order; a word and a ticket for each.

        The ticket id is the request's id: the same call again finds the tickets that the first one made. At most
        ``max_waiting`` tickets of the sale wait, in all its lines together; beyond that the word is LINE_FULL.
        """
        skus = tuple(dict.fromkeys(join.sku for join in joins))
        at = {sku: index for index, sku in enumerate(skus)}
        packed = [(each.ticket_id, at[each.sku] + 1, *each[2:]) for each in joins]
        sale_skus = await self.skus(sale_id) or skus
        with answering():
            reply = await self._join(
                self.redis,
                SaleKeys(sale_id, skus),
                joins=packed,
                skus=skus,
                max_waiting=max_waiting,
                sale_skus=sale_skus,
            )
        return [
            (
                result.word,
                ticket_of(result.ticket_id, result.record, reply.places[at[join.sku]], result.rank),
            )
            for result, join in zip(reply.results, joins, strict=True)
        ]

    async def read(self, sale_id: str, wanted: Sequence[tuple[str, str]]) -> list[Ticket | None]:
        """The tickets of (ticket_id, sku), in this order; nothing where a ticket is unknown."""
        skus = tuple(dict.fromkeys(sku for _, sku in wanted))
        at = {sku: index for index, sku in enumerate(skus)}
        with answering():
            reply = await self._read(
                self.redis,
                SaleKeys(sale_id, skus),
                ids=[(ticket_id, at[sku] + 1) for ticket_id, sku in wanted],
                skus=skus,
            )
        return [
            ticket_of(ticket_id, result.record, reply.places[at[sku]], result.rank)
            for result, (ticket_id, sku) in zip(reply.results, wanted, strict=True)
        ]

    async def show(self, sale_id: str, shown: Sequence[Shown]) -> list[Ticket | None]:
        """The tickets of these tokens, each back in its place where Redis had lost it, its buyer there (D3, D4).

        In this order; another ticket of the buyer's where that answers for it; nothing where no such ticket can be.
        A second call finds everything done.
        """
        skus = tuple(dict.fromkeys(each.sku for each in shown))
        at = {sku: index for index, sku in enumerate(skus)}
        packed = [(each.ticket_id, at[each.sku] + 1, *each[2:]) for each in shown]
        with answering():
            reply = await self._show(self.redis, SaleKeys(sale_id, skus), shown=packed, skus=skus)
        return [
            ticket_of(result.ticket_id, result.record, reply.places[at[each.sku]], result.rank)
            for result, each in zip(reply.results, shown, strict=True)
        ]

    async def leave(self, sale_id: str, ticket_id: str, sku: str) -> tuple[str, Ticket | None]:
        """LEFT, NOT_WAITING or UNKNOWN, and the ticket. A second call answers the same."""
        keys = SaleKeys(sale_id, (sku,))
        with answering():
            reply = await self._leave(self.redis, keys, ticket_id=ticket_id, moved=keys.moved)
        return reply.word, ticket_of(ticket_id, reply.record, (0, 0), -1)

    async def readmit(self, sale_id: str, ticket_id: str) -> str:
        """READMITTED, SAME or why not: see ``readmit.lua``. The new ticket is ``ids.readmission_of`` the old one."""
        skus = await self.known_skus(sale_id)
        if skus is None:
            return "UNKNOWN"
        with answering():
            new = readmission_of(sale_id, ticket_id)
            return (await self._readmit(self.redis, SaleKeys(sale_id, skus), was=ticket_id, id=new, skus=skus)).word

    async def look(self, sale_id: str) -> LookReply | None:
        """How the sale stands; nothing for one that Redis does not know. Rows are in the order of ``skus``."""
        skus = await self.known_skus(sale_id)
        if skus is None:
            return None
        try:
            with answering():
                reply = await self._look(self.redis, SaleKeys(sale_id, skus), skus=skus)
        except FencedError:
            # Halted; or Redis lost a sale that nobody else had, and the next look says so.
            self._skus.pop(sale_id, None)
            raise
        if tuple(sku for sku, _ in named_in(reply.meta["skus"])) == skus:
            return reply
        self._skus.pop(sale_id, None)  # Redis was emptied, and the sale made anew with others
        return await self.look(sale_id)

    async def stats(self, sale_id: str) -> StatsReply | None:
        """All counts at one instant; nothing for a sale that Redis does not know."""
        skus = await self.known_skus(sale_id)
        if skus is None:
            return None
        with answering():
            return await self._stats(self.redis, SaleKeys(sale_id, skus), skus=skus)

    async def tally(self, sale_id: str, counted: dict[str, int]) -> None:
        """Add to the running totals what a gateway answered without asking Redis. Not safe to repeat."""
        with answering():
            await self._tally(self.redis, SaleKeys(sale_id), counted=counted)


def named_in(text: bytes | str) -> tuple[tuple[str, str], ...]:
    """(sku, name) of a sale, from the field of its definition."""
    return tuple(msgspec.json.decode(text, type=list[tuple[str, str]]))
