"""The scripts of admission, one method an arrow of the state diagram. All may be called again with the same arguments.

All raise ``FencedError`` while the sale is halted (D1) and ``UnavailableError`` when Redis does not answer; whether an
unanswered call was carried out is unknown, and calling it again finds out.
"""

from collections.abc import Sequence
from functools import cache
from typing import Literal

import msgspec
from redis.asyncio import Redis

from admission.backlog import FULL, STRAGGLERS, Backlog, Speed
from fairline.counts import MOST_REASONS
from fairline.store.client import answering
from fairline.store.keys import SaleKeys
from fairline.store.scripts import Script

PACKAGE = "admission"


class Admitted(msgspec.Struct, array_like=True, frozen=True):
    """A ticket under this controller's lease."""

    ticket_id: str
    sku: str
    buyer_id: str
    quantity: int
    arrival: int
    tries: int


class AdmitReply(msgspec.Struct, array_like=True):
    """Answer of ``admit.lua``."""

    word: str
    tickets: list[Admitted]
    in_flight: int
    backlog: Backlog = Backlog()
    passed: int = 0  # others that left the line: nothing can be left for them (Q1), or they are not there (D3)


class WordsReply(msgspec.Struct, array_like=True):
    """A word for each ticket of a call."""

    word: str
    words: list[str]


class CountReply(msgspec.Struct, array_like=True):
    """How many tickets a call moved, one way and the other."""

    word: str
    count: int = 0
    other: int = 0


class Verdict(msgspec.Struct, array_like=True, frozen=True):
    """What Postgres decided of one order."""

    ticket_id: str
    event: Literal["confirm", "release"]
    units: tuple[int, ...]
    slots: tuple[int, ...]
    reason: str


class _Scripts:
    def __init__(self) -> None:
        self.admit = Script(PACKAGE, "admit", AdmitReply)
        self.reserve = Script(PACKAGE, "reserve", WordsReply)
        self.decline = Script(PACKAGE, "decline", WordsReply)
        self.give_back = Script(PACKAGE, "give_back", WordsReply)
        self.reap = Script(PACKAGE, "reap", CountReply)
        self.settle = Script(PACKAGE, "settle", CountReply)
        self.sweep = Script(PACKAGE, "sweep", CountReply)
        self.close = Script(PACKAGE, "close", CountReply)
        self.redrive = Script(PACKAGE, "redrive", CountReply)
        self.count = Script(PACKAGE, "count", CountReply)
        self.archive = Script(PACKAGE, "archive", CountReply)
        self.unlink = Script(PACKAGE, "unlink", CountReply)
        self.applied = Script(PACKAGE, "applied", CountReply)


@cache
def _scripts() -> _Scripts:
    """Read once a process: to read and hash them all takes a millisecond, and the settler needs them for each batch."""
    return _Scripts()


class Stock:
    """One sale's tickets and units, as admission moves them. ``skus`` are all of the sale."""

    def __init__(self, redis: Redis, sale_id: str, skus: Sequence[str]) -> None:
        self.sale_id = sale_id
        self._redis = redis
        self.skus = tuple(skus)
        self._keys = SaleKeys(sale_id, self.skus)
        self._scripts = _scripts()

    async def admit(
        self,
        lease: str,
        *,
        lease_ms: int,
        most: int,
        outbox_limit: int,
        orders_limit: int = 1_000_000_000,
        speed: Speed = FULL,
    ) -> AdmitReply:
        """Lease the next tickets; ADMITTED (may be none), NOT_OPEN, OUTBOX_FULL or ORDERS_FULL.

        Same lease, same tickets (L1). ``speed`` is what the backlog of the reply before asked for.
        """
        with answering():
            return await self._scripts.admit(
                self._redis,
                SaleKeys(self.sale_id, self.skus, lease=lease),
                lease=lease,
                lease_ms=lease_ms,
                most=most,
                outbox_limit=outbox_limit,
                skus=self.skus,
                moved=self._keys.moved,
                share=f"{speed.share:g}",
                because=speed.because,
                orders_limit=orders_limit,
                stragglers=STRAGGLERS,
            )

    async def reserve(self, lease: str, ids: Sequence[str], *, redrive_ms: int) -> list[str]:
        """RESERVED, DECLINED, STALE or NO_UNIT for each ticket; all or nothing for each."""
        with answering():
            reply = await self._scripts.reserve(
                self._redis,
                self._keys,
                lease=lease,
                ids=list(ids),
                redrive_ms=redrive_ms,
                skus=self.skus,
                moved=self._keys.moved,
            )
        return reply.words

    async def decline(self, lease: str, declined: Sequence[tuple[str, str]]) -> list[str]:
        """DECLINED or STALE for each (ticket_id, reason)."""
        with answering():
            reply = await self._scripts.decline(
                self._redis,
                self._keys,
                lease=lease,
                declined=list(declined),
                moved=self._keys.moved,
                reasons=MOST_REASONS,
            )
        return reply.words

    async def give_back(self, lease: str, ids: Sequence[str]) -> list[str]:
        """WAITING or STALE for each ticket; the try does not count (L5)."""
        with answering():
            reply = await self._scripts.give_back(
                self._redis, self._keys, lease=lease, ids=list(ids), skus=self.skus, moved=self._keys.moved
            )
        return reply.words

    async def reap(self, *, most: int, max_tries: int) -> CountReply:
        """End what leases have run out: (returned, lapsed)."""
        with answering():
            return await self._scripts.reap(
                self._redis, self._keys, most=most, max_tries=max_tries, skus=self.skus, moved=self._keys.moved
            )

    async def settle(self, verdicts: Sequence[Verdict]) -> CountReply:
        """Force verdicts on live tickets: DONE, or HALTED when one proves lost data (U4); how many were settled."""
        with answering():
            return await self._scripts.settle(
                self._redis, self._keys, verdicts=list(verdicts), skus=self.skus, moved=self._keys.moved
            )

    async def sweep(self, *, most: int) -> int:
        """Tell the tail of the line SOLD_OUT where that is true; how many."""
        with answering():
            reply = await self._scripts.sweep(
                self._redis, self._keys, most=most, skus=self.skus, moved=self._keys.moved
            )
        return reply.count

    async def close(self, *, most: int, outbox_limit: int) -> CountReply:
        """After the end: NOT_ENDED, ENDED or CLOSED, and how many were declined."""
        with answering():
            return await self._scripts.close(
                self._redis,
                self._keys,
                most=most,
                outbox_limit=outbox_limit,
                skus=self.skus,
                moved=self._keys.moved,
            )

    async def redrive(self, *, most: int, redrive_ms: int, longest_ms: int, outbox_limit: int) -> CountReply:
        """Put into the outbox again what nothing was heard of: (orders, changes of the sale)."""
        with answering():
            return await self._scripts.redrive(
                self._redis,
                self._keys,
                most=most,
                redrive_ms=redrive_ms,
                longest_ms=longest_ms,
                outbox_limit=outbox_limit,
                skus=self.skus,
            )

    async def count(self, *, every_ms: int, outbox_limit: int) -> str:
        """Tell Postgres the counts, not more often than this: POSTED, SAME or NOT_DUE."""
        with answering():
            reply = await self._scripts.count(self._redis, self._keys, every_ms=every_ms, outbox_limit=outbox_limit)
        return reply.word

    async def archive(self, batch: str, *, most: int, keep_ms: int, again_ms: int, outbox_limit: int) -> str:
        """One step on the way of a closed sale to Postgres: NOT_CLOSED, NOT_DUE, POSTED, WAITING or ARCHIVED (C2)."""
        with answering():
            reply = await self._scripts.archive(
                self._redis,
                self._keys,
                batch=batch,
                most=most,
                keep_ms=keep_ms,
                again_ms=again_ms,
                outbox_limit=outbox_limit,
                skus=self.skus,
            )
        return reply.word

    async def unlink(self, batch: str) -> int:
        """Forget the tickets of this batch, which Postgres has; how many. A second call finds none."""
        with answering():
            reply = await self._scripts.unlink(self._redis, self._keys, batch=batch)
        return reply.count

    async def applied(self, *, version: int, epoch: int, created_at_ms: int | None = None) -> str:
        """Note what Postgres knows: APPLIED or OLD. Stock that was asked for up to then goes on sale (U3).

        HALTED where Postgres knows another sale of this id, by when it was created: Redis has lost that one.
        """
        with answering():
            reply = await self._scripts.applied(
                self._redis,
                self._keys,
                version=version,
                epoch=epoch,
                created="" if created_at_ms is None else created_at_ms,
                skus=self.skus,
            )
        return reply.word
