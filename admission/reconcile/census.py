"""Reads all that Redis holds of a sale, in small pieces while the sale goes on, for a comparison with Postgres.

One instant cannot be had: to read a hundred thousand tickets in one script would stop the sale. The order of the pieces
is chosen so that what is under way is rarely seen half, and whoever compares looks twice.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, cast

import msgspec
from redis.asyncio import Redis

from admission.reconcile.differences import Account, Difference, unbalanced
from fairline.errors import FencedError
from fairline.events import OrderPlaced, from_outbox
from fairline.store.client import answering
from fairline.store.keys import SaleKeys
from fairline.store.scripts import Script, TicketRecord

PIECE: Final = 500  # records a call: a third of a millisecond of Redis, two of this process
REST_S: Final = 0.002  # after each piece, for everybody else

_record: Final = msgspec.msgpack.Decoder(TicketRecord).decode
_slots: Final = msgspec.msgpack.Decoder(list[int]).decode


class BalanceReply(msgspec.Struct, array_like=True):
    """Answer of ``balance.lua``."""

    word: str
    counts: list[str]
    tickets: int
    live: int
    leases: int
    reserved: int
    waiting: list[int]


class WordsReply(msgspec.Struct, array_like=True):
    """Answer of ``mend.lua``: a word for each fault, and the epoch in which that was so."""

    word: str
    words: list[str]
    epoch: str


class Census:
    """The books of one sale in Redis; ``redis`` gives bytes."""

    def __init__(self, redis: Redis, sale_id: str, skus: Sequence[str]) -> None:
        self.sale_id = sale_id
        self._redis = redis
        self._skus = tuple(skus)
        self._keys = SaleKeys(sale_id, self._skus)
        self._balance = Script("admission", "balance", BalanceReply)
        self._mend = Script("admission", "mend", WordsReply)

    async def account(self) -> Account:
        """All of it. Raises ``UnavailableError``, and ``FencedError`` while the sale is halted."""
        with answering():
            # Slots and serials that are taken from here on are not asked about; what comes back is read last.
            before = await self._numbers()
            account = Account(next_serial={sku: before[f"{sku}:next"] for sku in self._skus})
            account.held = await self._held()
            async for ticket_id, record in self._tickets():
                account.take(ticket_id, record)
            account.to_send_again = {each.decode() for each in await self._members(self._keys.reserved)}
            for at, sku in enumerate(self._skus):
                account.returned[sku] = {int(each) for each in await self._members(self._keys.returned[at])}
                account.withdrawn[sku] = {int(each) for each in await self._redis.smembers(self._keys.withdrawn[at])}
            meta = await self._redis.hmget(self._keys.meta, "version", "acked")
            numbers = await self._numbers()
            account.high = {sku: numbers[f"{sku}:high"] for sku in self._skus}
            account.settled = meta[0] == meta[1]
            await self.balance()  # also says whether the sale was halted meanwhile
        return account

    async def leaving(self) -> bool:
        """Whether its tickets are on their way to Postgres or there (C2): counts and records differ from then on."""
        with answering():
            state, since = await self._redis.hmget(self._keys.meta, "state", "archived_ms")
        return state == b"closed" and since is not None

    async def balance(self) -> list[Difference]:
        """What Redis alone shows to be counted wrongly, at one instant (C1)."""
        with answering():
            reply = await self._balance(self._redis, self._keys, skus=self._skus)
        flat = iter(reply.counts)
        return list(
            unbalanced(
                {name: int(number) for name, number in zip(flat, flat, strict=True)},
                tickets=reply.tickets,
                live=reply.live,
                leases=reply.leases,
                reserved=reply.reserved,
                waiting=dict(zip(self._skus, reply.waiting, strict=True)),
            )
        )

    async def orders_in_outbox(self) -> set[str]:
        """The tickets whose orders wait there, of the outbox as it is now."""
        found: set[str] = set()
        after = b"-"
        with answering():
            while entries := await self._redis.xrange(self._keys.outbox, min=after, count=PIECE):
                for _, fields in cast(list[tuple[bytes, dict[bytes, bytes]]], entries):
                    with contextlib.suppress(msgspec.DecodeError):  # the relay says so
                        fact = from_outbox(fields[b"fact"])
                        if isinstance(fact, OrderPlaced):
                            found.add(fact.ticket_id)
                after = b"(" + cast(bytes, entries[-1][0])
                await asyncio.sleep(REST_S)
        return found

    async def states(self, ticket_ids: Iterable[str]) -> dict[str, str | None]:
        """The state of each ticket; nothing where Redis does not know it."""
        found: dict[str, str | None] = {}
        ids = list(ticket_ids)
        with answering():
            for at in range(0, len(ids), PIECE):
                piece = ids[at : at + PIECE]
                packed = cast(list[bytes | None], await self._redis.hmget(self._keys.tickets, piece))
                found.update(
                    (ticket_id, _record(each).state if each else None)
                    for ticket_id, each in zip(piece, packed, strict=True)
                )
        return found

    async def mend(self, faults: Sequence[Difference], *, epoch: str = "") -> WordsReply:
        """STANDS or GONE for each, as it is at this instant; with the epoch of such an answer, MENDED or GONE."""
        packed = [
            (each.kind, each.sku, int(each.subject) if each.kind.startswith("unit") else each.subject, each.number)
            for each in faults
        ]
        with answering():
            return await self._mend(self._redis, self._keys, faults=packed, epoch=epoch, skus=self._skus)

    async def _numbers(self) -> dict[str, int]:
        found = cast(dict[bytes, bytes], await self._redis.hgetall(self._keys.items))
        if not found:  # of a Redis that was emptied: no script says it here, as none is asked
            raise FencedError(f"Redis has lost sale {self.sale_id}")
        return {name.decode(): int(text) for name, text in found.items()}

    async def _members(self, key: str) -> list[bytes]:
        return cast(list[bytes], await self._redis.zrange(key, 0, -1))

    async def _held(self) -> dict[tuple[str, str], list[int]]:
        held = {}
        async for who, packed in self._scan(self._keys.held):
            sku, _, buyer = who.partition(":")
            held[sku, buyer] = _slots(packed)
        return held

    async def _tickets(self) -> AsyncIterator[tuple[str, TicketRecord]]:
        async for ticket_id, packed in self._scan(self._keys.tickets):
            yield ticket_id, _record(packed)

    async def _scan(self, key: str) -> AsyncIterator[tuple[str, bytes]]:
        """A hash, piece by piece; what is there all the time comes at least once, and may come again."""
        cursor = 0
        while True:
            read = await self._redis.hscan(key, cursor, count=PIECE)
            cursor, piece = cast(tuple[int, dict[bytes, bytes]], read)  # its types allow for every option
            for name, packed in piece.items():
                yield name.decode(), packed
            if cursor == 0:
                return
            await asyncio.sleep(REST_S)
