"""Rebuilds one halted sale, in steps that may be cut off anywhere and begun anew (D2).

    claim        this attempt alone may rebuild the sale, as long as Redis stays the one that it is now
    drain        what Kafka holds of orders is decided first, as far as that takes no longer than ``drain_s``
    raise_epoch  from here on no order of before gets a row (V7): only now is it known what has one
    read         what Redis has left, and what Postgres decided
    refill       the rebuilt records and all that follows from them, in bounded parts; nobody reads them yet
    install      the sale goes on, in one script, if it is still halted and in this attempt's hand

An attempt that lost its hold (it was too slow, or Redis was replaced once more) has written nothing that matters and
raised an epoch at most; the next one begins at ``claim``. One that fails lets go; a hold that nobody lets go of ends by
itself after ``HOLD_MS``.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import islice
from typing import Any, Final, TypeVar, cast

import msgspec
from redis.asyncio import Redis

from admission.rebuild import Found, Rebuilt, rebuild
from admission.records import Ended, Known, Records
from fairline.errors import FairlineError, UnavailableError
from fairline.events import ORDERS, SALES, TICKETS
from fairline.runtime import logs
from fairline.store import keys as names
from fairline.store.client import answering
from fairline.store.keys import SaleKeys
from fairline.store.replies import NumberReply, WordReply
from fairline.store.scripts import Script, TicketRecord
from fairline.stream.progress import behind, ends_of
from fairline.stream.topics import order_service_group

log = logs.get(__name__)

HOLD_MS: Final = 15_000  # longer than any one question may take; each answer, page and part renews it
POLL_S: Final = 0.25
PART: Final = 1_000  # entries written by one script call: about 10 ms of Redis
PACKAGE: Final = "admission"

T = TypeVar("T")


class LostHoldError(FairlineError):
    """Somebody else rebuilds the sale, or it is not halted any more."""

    code = "lost_hold"


class _Claimed(msgspec.Struct, array_like=True):
    word: str
    because: str


class _Scripts:
    def __init__(self) -> None:
        self.claim = Script(PACKAGE, "claim", _Claimed)
        self.refill = Script(PACKAGE, "refill", WordReply)
        self.install = Script(PACKAGE, "install", NumberReply)
        self.let_go = Script(PACKAGE, "let_go", WordReply)


@cache
def _scripts() -> _Scripts:
    return _Scripts()


class Recovery:
    """One attempt for one sale. ``run`` once; a new attempt is a new object."""

    def __init__(self, redis: Redis, records: Records, kafka: str, known: Known, *, drain_s: float) -> None:
        self._redis = redis
        self._records = records
        self._kafka = kafka
        self._known = known
        self._drain_s = drain_s
        self._owner = uuid.uuid4().hex
        self._keys = SaleKeys(known.sale.sale_id, [item.sku for item in known.sale.items])
        self._scripts = _scripts()
        self.because = ""  # the sale is halted
        self.epoch = 0  # the new one, once it was raised
        self._found = Found()
        self._ended: list[Ended] = []
        self._rebuilt: Rebuilt | None = None
        self.steps: Final[tuple[Callable[[], Awaitable[None]], ...]] = (
            self.drain,
            self.raise_epoch,
            self.read,
            self.refill,
            self.install,
        )

    @property
    def sale_id(self) -> str:
        """Whose attempt this is."""
        return self._keys.sale_id

    async def run(self) -> Counter[str]:
        """All steps; how many tickets there were of each kind. Raises ``LostHoldError`` and ``UnavailableError``."""
        for step in self.steps:
            await step()
        assert self._rebuilt is not None  # noqa: S101 - one of the steps
        return self._rebuilt.what

    async def rehearse(self) -> Counter[str]:
        """What a rebuild would come to as things stand, without writing anything and without the sale in hand."""
        self._ended = [each async for each in self._records.ended(self.sale_id)]
        self._found = await self._look()
        self.epoch = self._known.epoch
        self._rebuilt = await self._work_out()
        return self._rebuilt.what

    @property
    def free(self) -> dict[str, int]:
        """Units of each sku that nobody has, as worked out."""
        new = self._rebuilt
        assert new is not None  # noqa: S101 - asked for after ``run`` or ``rehearse``
        return {
            sku: len(new.returned[sku]) + max(0, new.items[f"{sku}:high"] - new.items[f"{sku}:next"] + 1)
            for sku in self._keys.skus
        }

    async def _work_out(self) -> Rebuilt:
        found, known, ended, epoch = self._found, self._known, self._ended, self.epoch
        # In a thread, because it takes seconds for some hundred thousand tickets, and other sales go on.
        return await asyncio.to_thread(lambda: rebuild(found, known, ended, epoch=epoch))

    async def claim(self) -> bool:
        """Take the sale in hand; whether it was free. Registers a sale that Redis has lost."""
        with answering():
            await self._redis.sadd(names.SALES, self.sale_id)
        return await self._claim(first=True)

    async def _claim(self, *, first: bool) -> bool:
        with answering():
            reply = await self._scripts.claim(
                self._redis,
                self._keys,
                owner=self._owner,
                hold_ms=HOLD_MS,
                sale_id=self.sale_id,
                skus=msgspec.json.encode([(item.sku, item.name) for item in self._known.sale.items]).decode(),
                first=int(first),
            )
        self.because = reply.because or self.because
        return reply.word == "MINE"

    async def let_go(self, *, again_s: float) -> None:
        """After a failure: anybody may take the sale in hand in so many seconds, if this arrives. Never raises."""
        with suppress(UnavailableError), answering():
            await self._scripts.let_go(self._redis, self._keys, owner=self._owner, again_ms=max(1, int(again_s * 1000)))

    async def drain(self) -> None:
        """Wait until what was sent before is decided, for ``drain_s`` at most. What is not will be void, and sent anew.

        First the outbox, which the relay goes on emptying while a sale is halted, then what Kafka has by then.
        """
        deadline = time.monotonic() + self._drain_s
        try:
            await self._until(deadline, self._outbox)
            for topic in (SALES, ORDERS, TICKETS):
                ends = await ends_of(self._kafka, [topic])
                left = await self._until(deadline, partial(behind, self._kafka, order_service_group(topic), ends))
                if left:
                    log.warning("not all is decided that was sent", sale=self.sale_id, topic=topic, records=left)
        except UnavailableError as error:
            log.warning("recovering without waiting for Kafka", sale=self.sale_id, error=str(error))
        await self._hold()

    async def raise_epoch(self) -> None:
        """The next epoch in Postgres. One that somebody else raised meanwhile is not this attempt's: begin anew."""
        known = await self._definition()
        # After it was read: who has let go by now would raise an epoch that Redis may run on.
        await self._hold()
        epoch = await self._records.raise_epoch(self.sale_id, known.epoch)
        if epoch is None:
            raise LostHoldError
        self.epoch = epoch
        await self._hold()

    async def read(self) -> None:
        """Everything that the rebuild goes by. Only after the epoch was raised is it final."""
        self._known = await self._definition()
        await self._hold()
        async for each in self._records.ended(self.sale_id):
            self._ended.append(each)
            if len(self._ended) % PART == 0:
                await self._hold()
        await self._hold()
        self._found = await self._look(self._hold)

    async def refill(self) -> None:
        """Write all but what ``install`` writes."""
        self._rebuilt = new = await self._holding(self._work_out())
        at = {sku: index for index, sku in enumerate(self._keys.skus, 1)}
        kinds: list[Iterator[Any]] = [
            iter(new.tickets.items()),
            iter(new.live.items()),
            iter(new.held.items()),
            iter(new.reserved),
            ((at[sku], arrival, ticket_id) for sku, ticket_id, arrival in new.waiting),
            ((at[sku], serial) for sku, serials in new.returned.items() for serial in serials),
            _serials(new.withdrawn, self._found.withdrawn, at),
            _serials(self._found.withdrawn, new.withdrawn, at),
        ]
        await self._write([[] for _ in kinds], clear=True)
        for kind, entries in enumerate(kinds):
            for part in _parts(entries):
                await self._write([part if each == kind else [] for each in range(len(kinds))])

    async def install(self) -> None:
        """Let the sale go on."""
        new = self._rebuilt
        assert new is not None  # noqa: S101 - the step before
        with answering():
            reply = await self._scripts.install(
                self._redis,
                self._keys,
                owner=self._owner,
                hold_ms=HOLD_MS,
                fields=new.meta,
                items=new.items,
                counts=new.counts,
                reason=self.because,
                skus=self._keys.skus,
            )
        if reply.word != "INSTALLED":
            raise LostHoldError

    async def _hold(self) -> None:
        if not await self._claim(first=False):
            raise LostHoldError

    async def _holding(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work comes to, however long it takes."""
        task = asyncio.create_task(work)
        while not task.done():
            await asyncio.wait({task}, timeout=HOLD_MS / 3000)
            await self._hold()
        return task.result()

    async def _write(self, part: Sequence[Sequence[Any]], *, clear: bool = False) -> None:
        with answering():
            reply = await self._scripts.refill(
                self._redis,
                self._keys,
                owner=self._owner,
                hold_ms=HOLD_MS,
                clear=int(clear),
                part=list(part),
                skus=self._keys.skus,
            )
        if reply.word != "DONE":
            raise LostHoldError

    async def _definition(self) -> Known:
        known = await self._records.known(self.sale_id)
        if known is None:
            raise UnavailableError("Postgres does not know a sale that it knew")
        return known

    async def _until(self, deadline: float, left: Callable[[], Awaitable[int]]) -> int:
        """Wait until nothing is left, or the time is over; how much is left."""
        while True:
            number = await left()
            await self._hold()  # Kafka may take seconds for each answer
            if not number or time.monotonic() >= deadline:
                return number
            await asyncio.sleep(POLL_S)

    async def _outbox(self) -> int:
        with answering():
            return int(await self._redis.xlen(self._keys.outbox))

    async def _look(self, between: Callable[[], Awaitable[None]] | None = None) -> Found:
        keys, redis = self._keys, cast(Any, self._redis)
        tickets: dict[str, TicketRecord] = {}
        decode = msgspec.msgpack.Decoder(TicketRecord).decode
        with answering():
            meta, items = await redis.hgetall(keys.meta), await redis.hgetall(keys.items)
            withdrawn = {
                sku: {int(each) for each in await redis.smembers(key)}
                for sku, key in zip(keys.skus, keys.withdrawn, strict=True)
            }
            cursor = 0
            while True:
                cursor, page = await redis.hscan(keys.tickets, cursor, count=PART)
                tickets |= {ticket_id.decode(): decode(packed) for ticket_id, packed in page.items()}
                if between is not None:
                    await between()
                if not cursor:
                    break
        return Found(
            meta={name.decode(): text.decode() for name, text in meta.items()},
            items={name.decode(): int(number) for name, number in items.items()},
            withdrawn=withdrawn,
            tickets=tickets,
        )


def _serials(
    some: Mapping[str, set[int]], others: Mapping[str, set[int]], at: Mapping[str, int]
) -> Iterator[tuple[int, int]]:
    """Those that the others lack."""
    return ((at[sku], serial) for sku, serials in some.items() for serial in sorted(serials - others.get(sku, set())))


def _parts(entries: Iterator[T]) -> Iterator[list[T]]:
    while part := list(islice(entries, PART)):
        yield part
