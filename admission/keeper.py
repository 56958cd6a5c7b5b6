"""What a sale needs besides admission, in turn: leases that ended, sold out, the end, its clock, sending again, counts.

Each is a script that asks again whether it is still true, so any number of copies may do it at once. Serves a sale from
its registration until it is closed (O4).
"""

import time
from typing import Final

from admission.settings import AdmissionSettings
from admission.stock import Stock
from fairline.clock import to_ms
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.states import SaleState
from fairline.store.sales import Sales, SaleView

log = logs.get(__name__)

LOOK_S: Final = 0.4  # with the longest rest between two rounds: a change of validator acts within a second
REDRIVE_S: Final = 1.0
COUNT_S: Final = 5.0  # what statistics may lose with Redis; a few kB of Kafka each time that something was counted
BATCH: Final = 500


class Keeper:
    """The keeper of one sale in this process; ``view`` is the sale as it stood less than a second ago.

    ``over``: the sale is closed, or it was made anew with other skus, and these are served no more.
    """

    def __init__(self, sales: Sales, stock: Stock, settings: AdmissionSettings, metrics: Metrics) -> None:
        self._sales = sales
        self._stock = stock
        self._settings = settings
        self._metrics = metrics
        self._looked_at = self._redriven_at = self._counted_at = float("-inf")
        self.view: SaleView | None = None
        self.over = False

    async def run_once(self) -> int:
        """One round; how many tickets it moved."""
        await self._look()
        if self.view is None or self.over:
            return 0
        limits = self._settings
        reaped = await self._stock.reap(most=BATCH, max_tries=limits.max_tries)
        for how, number in (("returned", reaped.count), ("lapsed", reaped.other)):
            self._metrics.reaped.labels(self._stock.sale_id, how).inc(number)
        moved = reaped.count + reaped.other
        moved += await self._stock.sweep(most=BATCH)
        if self.view.state is SaleState.ENDED:
            closing = await self._stock.close(most=BATCH, outbox_limit=limits.outbox_limit)
            moved += closing.count
            self.over = closing.word == "CLOSED"
        await self._redrive()
        await self._count()
        return moved

    async def _look(self) -> None:
        if time.monotonic() - self._looked_at < LOOK_S:
            return
        view = await self._sales.get(self._stock.sale_id)
        self._looked_at = time.monotonic()
        if view is not None:
            view = await self._follow_clock(view)
            skus = tuple(item.sku for item in view.definition.items)
            self.over = view.state is SaleState.CLOSED or skus != self._stock.skus
            self._metrics.waiting.labels(view.definition.sale_id).set(view.waiting)
            self._metrics.servable.labels(view.definition.sale_id).set(view.servable)
        self.view = view

    async def _follow_clock(self, view: SaleView) -> SaleView:
        """Open and end the sale at the times its operator set; the script asks again whether they have come."""
        definition, now = view.definition, view.now_ms  # by Redis's clock, the one that all copies share
        due_open = definition.opens_at is not None and to_ms(definition.opens_at) <= now
        due_end = definition.ends_at is not None and to_ms(definition.ends_at) <= now
        if due_end and view.state in {SaleState.DRAFT, SaleState.OPEN, SaleState.PAUSED}:
            await self._sales.change_when_due(definition.sale_id, "end", "ends_at_ms")
        elif due_open and view.state is SaleState.DRAFT:
            await self._sales.change_when_due(definition.sale_id, "open", "opens_at_ms")
        else:
            return view
        return await self._sales.get(definition.sale_id) or view

    async def _redrive(self) -> None:
        if time.monotonic() - self._redriven_at < min(REDRIVE_S, self._settings.redrive_after_ms / 2000):
            return
        limits = self._settings
        sent = await self._stock.redrive(
            most=BATCH,
            redrive_ms=limits.redrive_after_ms,
            longest_ms=limits.redrive_longest_ms,
            outbox_limit=limits.outbox_limit,
        )
        self._redriven_at = time.monotonic()
        self._metrics.redriven.labels(self._stock.sale_id).inc(sent.count)
        if sent.count or sent.other:
            log.info("sent again", sale=self._stock.sale_id, orders=sent.count, changes=sent.other)

    async def _count(self) -> None:
        if time.monotonic() - self._counted_at < COUNT_S:
            return
        await self._stock.count(every_ms=int(COUNT_S * 1000), outbox_limit=self._settings.outbox_limit)
        self._counted_at = time.monotonic()
