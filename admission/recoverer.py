"""Finds the sales that have to be rebuilt, and has that done, without anybody asking (D2).

    halted      its fence is not this Redis: restarted, promoted, or a unit was sold twice (U4), or an operator says so
    lost        Postgres knows it and Redis does not: emptied
    behind      Redis runs an older version or epoch than Postgres knows: emptied, and made anew meanwhile; one whose
                version is no older by now is halted by the answer to its first change (``applied.lua``)

Once each of them is there again, if only as halted, what was archived is brought back too, and this Redis is whole.
Any number of copies may look; for each sale one rebuilds. Sales that go on come first, then those in which buyers are
still told their end, then the closed ones, which nobody waits for. What cannot be done now is tried at the next look.
"""

import asyncio
import time
from typing import Any, Final, NamedTuple, cast

from redis.asyncio import Redis

from admission.records import Known, Listed, Records
from admission.recovery import HOLD_MS, LostHoldError, Recovery
from admission.rememberer import Rememberer
from admission.settings import AdmissionSettings
from fairline.errors import UnavailableError
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import loop
from fairline.store.client import answering
from fairline.store.keys import SaleKeys
from fairline.store.room import Room
from fairline.store.sales import Sales

log = logs.get(__name__)

LOOK_S: Final = 0.5
LIST_S: Final = 5.0  # until an emptied Redis is noticed that is the same instance still
ANY_FENCE: Final = "archived"  # of a sale in which nothing can change any more (C2)
AT_ONCE: Final = 4  # sales rebuilt at a time: each is read into memory
BEGIN_WITHIN_S: Final = 5.0  # of a look; the next one begins with the most urgent again
_LATER: Final = {"ended": 1, "closed": 2, "archived": 2}


class _There(NamedTuple):
    """A sale as Redis has it, halted or not."""

    fence: str
    epoch: int
    version: int
    state: str
    never_open: bool


class _Begin(NamedTuple):
    """How many rebuilds at a time, and until when a look begins any."""

    at_once: asyncio.Semaphore
    until: float


class Recoverer:
    """The recoverer of this process."""

    def __init__(
        self, redis: Redis, room: Room, records: Records, settings: AdmissionSettings, metrics: Metrics
    ) -> None:
        self._redis = redis
        self._room = room
        self._sales = Sales(room)
        self._records = records
        self._settings = settings
        self._metrics = metrics
        self._rememberer = Rememberer(redis, room, records)
        self._listed_at = float("-inf")
        self._listed_of = ""
        self._listed: dict[str, Listed] = {}
        self._again_s: dict[str, float] = {}  # of sales whose last attempt here failed: when the next may come
        self._given_up: set[str] = set()  # said once

    async def look(self) -> None:
        """Look until cancelled; an attempt that is cut off is begun anew by whoever looks next."""
        await loop(self.run_once, asyncio.Event(), idle_s=LOOK_S, later=(UnavailableError,), name="recoverer")

    async def run_once(self) -> int:
        """One look; how many sales were rebuilt. Raises ``UnavailableError``."""
        instance = await self._room.instance()
        due = self._listed_of != instance or time.monotonic() - self._listed_at >= LIST_S
        look = await self._rememberer.begin(instance) if due else None
        known = await self._known(instance) if due else {}
        there = await self._there(sorted({*await self._room.sale_ids(), *known}))
        for sale_id, listed in known.items():
            sale = there[sale_id]
            if sale.fence == instance and (sale.version < listed.version or sale.epoch < listed.epoch):
                log.critical("sale halted: Postgres knows more of it than Redis", sale=sale_id)
                await self._sales.halt(sale_id, "older than Postgres")
                there[sale_id] = sale._replace(fence="halted")
        # One that was only registered is nothing yet, unless Postgres knows it: then Redis has lost it.
        halted = {
            sale_id: sale
            for sale_id, sale in there.items()
            if sale.fence not in {instance, ANY_FENCE} and (sale.fence or sale_id in self._listed)
        }
        self._again_s = {sale_id: again_s for sale_id, again_s in self._again_s.items() if sale_id in halted}
        for sale_id in there:
            self._metrics.halted.labels(sale_id).set(sale_id in halted)
            self._metrics.recovered.labels(sale_id)  # at zero, so that an alert sees the first time
        begin = _Begin(asyncio.Semaphore(AT_ONCE), until=time.monotonic() + BEGIN_WITHIN_S)
        urgent_first = sorted(halted, key=lambda sale_id: self._urgency(sale_id, halted[sale_id]))
        rebuilt = sum(
            await asyncio.gather(*(self._recover(sale_id, halted[sale_id], begin) for sale_id in urgent_first))
        )
        if look is not None and all(sale.fence for sale in (await self._there(list(known))).values()):
            await self._rememberer.finish(look)
        return rebuilt

    async def _known(self, instance: str) -> dict[str, Listed]:
        """The sales of Postgres, to compare them."""
        known = {listed.sale_id: listed async for listed in self._records.sales()}
        self._listed_of, self._listed_at, self._listed = instance, time.monotonic(), known
        return known

    def _urgency(self, sale_id: str, sale: _There) -> int:
        """The least first. Where Redis has lost the state of a sale, Postgres has said it."""
        listed = self._listed.get(sale_id)
        return _LATER.get(sale.state or (listed.state if listed else ""), 0)

    async def _there(self, sale_ids: list[str]) -> dict[str, _There]:
        pipe = cast(Any, self._redis).pipeline(transaction=False)
        for sale_id in sale_ids:
            pipe.hmget(SaleKeys(sale_id).meta, "fence", "epoch", "version", "state", "acked")
        with answering():
            found = await pipe.execute()
        return {
            sale_id: _There(
                (fence or b"").decode(),
                int(epoch or 0),
                int(version or 0),
                (state or b"").decode(),
                state == b"draft" and int(acked or 0) == 0,
            )
            for sale_id, (fence, epoch, version, state, acked) in zip(sale_ids, found, strict=True)
        }

    async def _recover(self, sale_id: str, sale: _There, begin: _Begin) -> int:
        try:
            async with begin.at_once:
                if time.monotonic() > begin.until:
                    return 0
                known = await self._records.known(sale_id)
                if known is None:
                    await self._never_known(sale_id, sale)
                    return 0
                return await self._attempt(sale_id, known)
        except LostHoldError:
            log.warning("not recovered, somebody else will", sale=sale_id)
        except UnavailableError as error:
            log.warning("not recovered yet", sale=sale_id, error=str(error))
        return 0

    async def _attempt(self, sale_id: str, known: Known) -> int:
        attempt = Recovery(
            self._redis, self._records, self._settings.kafka, known, drain_s=self._settings.recover_drain_s
        )
        if not await attempt.claim():
            return 0
        log.warning("recovering", sale=sale_id, because=attempt.because, epoch=known.epoch)
        began = time.monotonic()
        try:
            what = await attempt.run()
        except BaseException:
            # Later each time: an attempt may raise the epoch, and there are not any number of epochs.
            again_s = self._again_s.get(sale_id, LOOK_S)
            self._again_s[sale_id] = min(2 * again_s, HOLD_MS / 1000)
            await attempt.let_go(again_s=again_s)
            raise
        self._again_s.pop(sale_id, None)
        took_s = time.monotonic() - began
        self._metrics.halted.labels(sale_id).set(0)
        self._metrics.recovered.labels(sale_id).inc()
        self._metrics.recovery_s.observe(took_s)
        log.warning("recovered", sale=sale_id, epoch=attempt.epoch, took_s=round(took_s, 2), **what)
        return 1

    async def _never_known(self, sale_id: str, sale: _There) -> None:
        """What Postgres never heard of was never open (O4), so nothing of it can be lost: it goes on as it is."""
        if sale.never_open and sale.version and await self._sales.adopt_one(sale_id, sale.fence):
            log.warning("recovered: it was never open", sale=sale_id)
        elif sale.version and not sale.never_open and sale_id not in self._given_up:
            self._given_up.add(sale_id)
            log.critical("not recovered: Postgres does not know a sale that was open", sale=sale_id)
