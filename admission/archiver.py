"""Closed sales -> Postgres, once they were kept long enough; what is left of them in Redis is their counters (C2).

One round takes each such sale one step further: a script posts a batch of tickets, the relay of this process sends it,
and the settler unlinks it when Postgres has it. All that is known lies in Redis, so any number of copies may do this at
once, and any may die at any step. A sale that is not due is asked about seldom, because it may be so for a day.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Final

from admission.relay import Relay
from admission.settings import AdmissionSettings
from admission.stock import Stock
from fairline.errors import FencedError, UnavailableError
from fairline.runtime import logs
from fairline.runtime.services import loop
from fairline.store.room import Room
from fairline.store.sales import Sales

log = logs.get(__name__)

BATCH: Final = 250  # tickets: 60 KB on Kafka, 3 ms of Redis
IDLE_S: Final = 0.05  # while a batch is on its way to Postgres and back
LONGEST_IDLE_S: Final = 1.0
LONGEST_REST_S: Final = 60.0  # until a sale that is not due is asked about again


class Archiver:
    """The archiver of this process. ``open_sale`` gives what moves a sale of these skus."""

    def __init__(
        self,
        sales: Sales,
        room: Room,
        open_sale: Callable[[str, tuple[str, ...]], tuple[Stock, Relay]],
        settings: AdmissionSettings,
        *,
        batch: int = BATCH,
    ) -> None:
        self._sales = sales
        self._room = room
        self._open_sale = open_sale
        self._settings = settings
        self._batch = batch
        self._rest_s = min(LONGEST_REST_S, settings.archive_after_s / 4)
        self._failed = ""
        self._due_at: dict[str, float] = {}
        self._at_work: dict[str, tuple[Stock, Relay]] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Archive until stopping."""
        await loop(
            self.run_once,
            stopping,
            idle_s=IDLE_S,
            longest_idle_s=LONGEST_IDLE_S,
            later=(UnavailableError,),
            name="archiver",
        )
        for _, relay in self._at_work.values():
            await relay.release()

    async def run_once(self) -> int:
        """A step for each sale that may be due; how many steps were made.

        Raises ``UnavailableError`` where one could not be made; the next round begins after that sale.
        """
        registered = await self._room.sale_ids()
        for known in (self._due_at, self._at_work):
            for sale_id in set(known) - set(registered):
                del known[sale_id]
        steps = 0
        for sale_id in sorted(registered, key=lambda each: (each <= self._failed, each)):
            if time.monotonic() >= self._due_at.get(sale_id, 0.0):
                try:
                    steps += await self._step(sale_id)
                except UnavailableError:
                    self._failed = sale_id
                    raise
        return steps

    async def _step(self, sale_id: str) -> int:
        skus = await self._room.skus(sale_id)
        if skus is None:  # registered, not yet written
            return 0
        stock, relay = self._at_work.get(sale_id) or self._open_sale(sale_id, skus)
        limits = self._settings
        try:
            word = await stock.archive(
                uuid.uuid4().hex,
                most=self._batch,
                keep_ms=int(limits.archive_after_s * 1000),
                again_ms=limits.redrive_after_ms,
                outbox_limit=limits.outbox_limit,
            )
        except FencedError:
            word = "FENCED"
        if word == "ARCHIVED":
            await self._sales.retire(sale_id)
            await relay.release()
            log.info("archived", sale=sale_id)
            return 1
        if word not in {"POSTED", "WAITING"}:
            self._due_at[sale_id] = time.monotonic() + self._rest_s
            return 0
        self._at_work[sale_id] = stock, relay
        return await relay.run_once()
