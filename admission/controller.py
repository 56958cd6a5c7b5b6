"""Admit, validate, reserve: how the tickets of one sale get from the line to an order.

Owns the leases it asked for, nothing else: a controller that dies loses no ticket, because a lease that ends returns to
its place. Up to ``batches`` batches are under validation at a time; any number of controllers may work on one sale.
Nothing is decided after the lease's own end, counted on the monotonic clock from before admit was sent (L4).
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from admission.settings import AdmissionSettings
from admission.stock import Admitted, Stock
from admission.validators import YES, BreakerOpenError, Check, NoAnswerError
from fairline.errors import UnavailableError
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.runtime.retry import retry

log = logs.get(__name__)

NOT_OPEN_REST_S = 0.2


@dataclass(frozen=True)
class _Lease:
    id: str
    ends: float  # monotonic seconds; nothing is decided after it


class Controller:
    """The controller of one sale in this process."""

    def __init__(self, stock: Stock, settings: AdmissionSettings, metrics: Metrics) -> None:
        self._stock = stock
        self._settings = settings
        self._metrics = metrics
        self._lease: str | None = None
        self._handling: set[asyncio.Task[None]] = set()

    async def run_once(self, check: Check, lease_ms: int) -> int:
        """Admit one batch and start to decide about it; how many tickets. Waits while ``batches`` are under way."""
        if check.resting:
            return 0
        while len(self._handling) >= self._settings.batches:
            await asyncio.wait(self._handling, return_when=asyncio.FIRST_COMPLETED)
        asked_at = time.monotonic()
        # The same lease until it is answered, so that a lost answer loses no ticket (L1).
        self._lease = self._lease or uuid.uuid4().hex
        lease = _Lease(self._lease, asked_at + (lease_ms - self._settings.margin_ms) / 1000)
        reply = await self._stock.admit(
            lease.id, lease_ms=lease_ms, most=self._settings.batch, outbox_limit=self._settings.outbox_limit
        )
        self._lease = None
        if not reply.tickets:
            if reply.word == "NOT_OPEN":
                await asyncio.sleep(NOT_OPEN_REST_S)
            return 0
        self._metrics.admitted.labels(self._stock.sale_id).inc(len(reply.tickets))
        task = asyncio.create_task(self._decide(lease, reply.tickets, check), name=f"decide {lease.id}")
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)
        return len(reply.tickets)

    async def drain(self) -> None:
        """Wait for what is under way; each batch ends with its lease at the latest."""
        if self._handling:
            await asyncio.wait(self._handling)

    async def _decide(self, lease: _Lease, tickets: list[Admitted], check: Check) -> None:
        try:
            answers = await self._validate(lease, tickets, check)
            accepted = [ticket.ticket_id for ticket, said in answers if said == YES]
            declined = [(ticket.ticket_id, said) for ticket, said in answers if isinstance(said, str) and said != YES]
            # While the shop is left alone, nobody's tries are spent on it (L5).
            no_answer = (BreakerOpenError, NoAnswerError) if check.resting else BreakerOpenError
            given_back = [ticket.ticket_id for ticket, said in answers if isinstance(said, no_answer)]
            if accepted:
                words = await self._until(
                    lease, lambda: self._stock.reserve(lease.id, accepted, redrive_ms=self._settings.redrive_after_ms)
                )
                self._metrics.reserved.labels(self._stock.sale_id).inc(words.count("RESERVED"))
            if declined:
                await self._until(lease, lambda: self._stock.decline(lease.id, declined))
            if given_back:
                await self._until(lease, lambda: self._stock.give_back(lease.id, given_back))
        except Exception as error:  # noqa: BLE001 - the lease's end puts everything back; the next batch may do better
            log.warning("batch not decided", sale=self._stock.sale_id, lease=lease.id, error=repr(error))

    async def _validate(
        self, lease: _Lease, tickets: list[Admitted], check: Check
    ) -> list[tuple[Admitted, str | BaseException]]:
        """An answer for each ticket, or why there is none; all at once, cancelled at the end of the lease."""
        asking = [asyncio.ensure_future(check(ticket)) for ticket in tickets]
        try:
            await asyncio.wait(asking, timeout=max(0.0, lease.ends - time.monotonic()))
        finally:
            for each in asking:
                each.cancel()
        said = await asyncio.gather(*asking, return_exceptions=True)
        count = self._metrics.validated.labels
        for answer in said:
            kind = "none" if isinstance(answer, BaseException) else "yes" if answer == YES else "no"
            count(self._stock.sale_id, kind).inc()
            if isinstance(answer, Exception) and not isinstance(answer, (NoAnswerError, BreakerOpenError)):
                log.error("validator failed", sale=self._stock.sale_id, error=repr(answer))
        return list(zip(tickets, said, strict=True))

    async def _until(self, lease: _Lease, call: Callable[[], Awaitable[list[str]]]) -> list[str]:
        """Call a script until Redis answers or the lease is over; calling it again is safe (L2)."""
        left = lease.ends - time.monotonic()
        if left <= 0:
            raise UnavailableError("the lease ended before a decision could be written")
        return await retry(call, on=UnavailableError, attempts=1000, longest_s=0.5, within_s=left)
