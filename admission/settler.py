"""Results -> Redis: verdicts settle tickets, stock that Postgres knows goes on sale, tickets that it keeps go.

Commits an offset only after the scripts ran. A result may come twice and settles once (S1). A sale that is halted keeps
its RESERVED tickets: its results are passed over here and asked for again after recovery (O3), so that one halted sale
does not hold up the others. A copy that does not reach Redis for long leaves its share of the results to the others.
"""

import asyncio
import time
from collections import defaultdict
from typing import Final

from redis.asyncio import Redis

from admission.settings import AdmissionSettings
from admission.stock import Stock, Verdict
from fairline.errors import FencedError, UnavailableError
from fairline.events import RESULTS, AnyFact, OrderConfirmed, OrderFailed, SaleApplied, TicketsKept
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import loop
from fairline.store.room import Room
from fairline.stream.reader import EventReader

log = logs.get(__name__)

GROUP: Final = "fairline-admission"
WAIT_S: Final = 0.5
AWAY_S: Final = 15.0  # without Redis, until this copy leaves the group: longer than a Redis takes to come back


class Settler:
    """The settler of this process; the copies share the partitions of the results topic."""

    def __init__(
        self, redis: Redis, room: Room, reader: EventReader, settings: AdmissionSettings, metrics: Metrics
    ) -> None:
        self._redis = redis
        self._room = room
        self._reader = reader
        self._settings = settings
        self._metrics = metrics
        self._away_since: float | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Settle until stopping; then leave the group, so that another copy takes over at once."""
        await loop(self.run_once, stopping, idle_s=0, later=(UnavailableError,), name="settler")
        await self._reader.close()

    async def run_once(self) -> int:
        """Settle one batch; how many results it held. Raises ``UnavailableError`` with the batch still to come."""
        if self._away_since is not None and time.monotonic() - self._away_since >= AWAY_S:
            await self._reader.close()
            await self._room.instance()
            self._away_since = None
        records = (await self._reader.batch(self._settings.settle_batch, timeout_s=WAIT_S)).records
        by_sale: dict[str, list[AnyFact]] = defaultdict(list)
        for record in records:
            if record.fact is None:
                log.error("no result", offset=record.offset, partition=record.where.number, fault=record.fault)
            else:
                by_sale[record.fact.sale_id].append(record.fact)
        try:
            for sale_id, facts in by_sale.items():
                await self._settle(sale_id, facts)
        except UnavailableError:
            self._away_since = self._away_since or time.monotonic()
            await self._reader.rewind(records)
            raise
        self._away_since = None
        await self._reader.commit(records)
        self._metrics.lag.labels(RESULTS).set(self._reader.lag()[RESULTS])
        return len(records)

    async def _settle(self, sale_id: str, facts: list[AnyFact]) -> None:
        skus = await self._room.skus(sale_id)
        if skus is None:
            log.warning("results of an unknown sale", sale=sale_id, results=len(facts))
            return
        stock = Stock(self._redis, sale_id, skus)
        verdicts = [verdict for fact in facts if (verdict := verdict_of(fact))]
        applied = [fact for fact in facts if isinstance(fact, SaleApplied)]
        try:
            if verdicts:
                reply = await stock.settle(verdicts)
                self._metrics.settled.labels(sale_id).inc(reply.count)
                if reply.word == "HALTED":
                    log.critical("sale halted: a unit was sold twice, Redis has lost data", sale=sale_id)
            for fact in facts:
                if isinstance(fact, TicketsKept):
                    self._metrics.archived.inc(await stock.unlink(fact.batch))
            if applied:
                newest = max(applied, key=lambda fact: (fact.epoch, fact.version))
                word = await stock.applied(
                    version=newest.version, epoch=newest.epoch, created_at_ms=newest.created_at_ms
                )
                if word == "HALTED":
                    log.critical("sale halted: Postgres knows another of this id, Redis has lost it", sale=sale_id)
        except FencedError:
            log.warning("results passed over, the sale is halted", sale=sale_id, results=len(facts))


def verdict_of(fact: AnyFact) -> Verdict | None:
    """What a result decides of a ticket, if it is about one."""
    match fact:
        case OrderConfirmed():
            return Verdict(fact.ticket_id, "confirm", fact.units, fact.slots, "")
        case OrderFailed():
            return Verdict(fact.ticket_id, "release", (), (), fact.reason)
        case _:
            return None
