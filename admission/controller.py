"""Admit, validate, reserve: how the tickets of one sale get from the line to an order.

Owns the leases it asked for, nothing else: a controller that dies loses no ticket, because a lease that ends returns to
its place. At most ``batch * batches`` tickets are under decision at a time, and no more than the validator may be asked
about; any number of controllers may work on one sale. Nothing is decided after the lease's own end, counted on the
monotonic clock from before admit was sent (L4).
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from admission.backlog import FULL, speed_of
from admission.settings import AdmissionSettings
from admission.stock import AdmitReply, Admitted, Stock
from admission.validators import YES, BreakerOpenError, Check, NoAnswerError, ProbeFailedError
from fairline.errors import FencedError, UnavailableError
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.runtime.retry import retry
from fairline.runtime.services import cancelled

log = logs.get(__name__)

NOT_OPEN_REST_S = 0.2

Said = str | BaseException
_EXPECTED = (NoAnswerError, BreakerOpenError, ProbeFailedError)


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
        metrics.admitted.labels(stock.sale_id)  # at zero, so that "nobody is admitted" can be seen
        self._unanswered: _Lease | None = None
        self._probed: tuple[_Lease, Admitted] | None = None
        self._resting_until = 0.0
        self._speed = FULL
        self._deciding = 0
        self._handling: set[asyncio.Task[None]] = set()

    async def run_once(self, check: Check, lease_ms: int) -> int:
        """Admit one batch and start to decide about it; how many tickets left the line.

        Where no more may be under decision it waits a tick for one that ends, and returns how many there are.
        """
        limits = self._settings
        if check.resting or time.monotonic() < self._resting_until:
            return 0
        room = min(check.at_once, limits.batch * limits.batches) - self._deciding
        if room <= 0:
            under_way = self._deciding
            await asyncio.wait(self._handling, timeout=limits.tick_ms / 1000, return_when=asyncio.FIRST_COMPLETED)
            return under_way
        lease = self._unanswered = self._next_lease(lease_ms)
        reply = await self._stock.admit(
            lease.id,
            lease_ms=lease_ms,
            most=min(room, limits.batch),
            outbox_limit=limits.outbox_limit,
            orders_limit=limits.orders_limit,
            speed=self._speed,
        )
        self._unanswered = None
        self._judge(reply)
        if reply.word == "NOT_OPEN":
            self._resting_until = time.monotonic() + NOT_OPEN_REST_S
        if not reply.tickets:
            return reply.passed
        self._metrics.admitted.labels(self._stock.sale_id).inc(len(reply.tickets))
        self._start(lease, reply.tickets, check)
        return len(reply.tickets) + reply.passed

    def _judge(self, reply: AdmitReply) -> None:
        """How fast the next call may admit, by what this one found unsettled (``admission.backlog``)."""
        limits, backlog, before = self._settings, reply.backlog, self._speed
        self._speed = speed_of(
            backlog,
            behind_ms=limits.behind_ms,
            outbox_limit=limits.outbox_limit,
            orders_limit=limits.orders_limit,
        )
        sale_id = self._stock.sale_id
        self._metrics.admission_share.labels(sale_id).set(self._speed.share)
        self._metrics.unsettled.labels(sale_id).set(backlog.orders)
        self._metrics.unsettled_s.labels(sale_id).set(backlog.age_ms / 1000)
        if self._speed.because != before.because:
            log.warning(
                "admission slows" if self._speed.because else "admission is fast again",
                sale=sale_id,
                because=self._speed.because,
                share=self._speed.share,
                **msgspec.structs.asdict(backlog),
            )

    def _start(self, lease: _Lease, tickets: list[Admitted], check: Check) -> None:
        self._deciding += len(tickets)
        task = asyncio.create_task(self._decide(lease, tickets, check), name=f"decide {lease.id}")
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    async def drain(self) -> None:
        """Wait for what is under way; each batch ends with its lease at the latest."""
        if self._handling:
            await asyncio.wait(self._handling)

    async def close(self) -> None:
        """Give up what is still under way: those leases end by themselves. A second call does nothing more."""
        await cancelled(*self._handling)

    def _next_lease(self, lease_ms: int) -> _Lease:
        """A new lease, or the one of a call that was not answered, so that a lost answer loses no ticket (L1).

        Its time counts from that call, which may have been carried out. One with less than half of it left is not taken
        up again: there would be no time to decide about whom it admits now.
        """
        now = time.monotonic()
        new = _Lease(uuid.uuid4().hex, now + (lease_ms - self._settings.margin_ms) / 1000)
        old = self._unanswered
        if old is None or old.ends - now < (new.ends - now) / 2:
            return new
        return _Lease(old.id, min(old.ends, new.ends))

    async def _decide(self, lease: _Lease, tickets: list[Admitted], check: Check) -> None:
        """Ask about all at once, and write what is answered as it comes: nobody waits for the slowest of a batch."""
        asking = {asyncio.create_task(_ask(check, ticket)): ticket for ticket in tickets}
        waiting, unanswered, undecided = set(asking), list[Admitted](), len(tickets)
        try:
            while waiting and (left := lease.ends - time.monotonic()) > 0:
                done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                answers = [(ticket, _said(each)) for each, ticket in asking.items() if each in done]  # in order
                unanswered += [ticket for ticket, said in answers if isinstance(said, NoAnswerError)]
                probed = [ticket for ticket, said in answers if isinstance(said, ProbeFailedError)]
                await self._write(lease, answers)
                undecided -= len(done)
                self._deciding -= len(done)
                if probed:
                    await self._keep_apart(lease, probed[0])
                elif self._probed and any(isinstance(said, str) for _, said in answers):
                    (again_under, again), self._probed = self._probed, None
                    self._start(again_under, [again], check)
            if unanswered and check.resting:
                # Once the shop is left alone, nobody's try is spent on what led there (L5).
                await self._give_back(lease, unanswered)
        except (UnavailableError, FencedError) as error:
            # The lease's end puts everything back, and the next batch may do better.
            log.warning("batch not decided", sale=self._stock.sale_id, lease=lease.id, error=repr(error))
        except Exception:
            log.exception("batch not decided", sale=self._stock.sale_id, lease=lease.id)
        finally:
            self._deciding -= undecided
            self._metrics.validated.labels(self._stock.sale_id, "none").inc(len(waiting))
            await cancelled(*asking)

    async def _write(self, lease: _Lease, answers: list[tuple[Admitted, Said]]) -> None:
        """Carry out what the shop said of some tickets. One of whom it said nothing keeps its lease until that ends."""
        accepted = [ticket.ticket_id for ticket, said in answers if said == YES]
        declined = [(ticket.ticket_id, said) for ticket, said in answers if isinstance(said, str) and said != YES]
        not_asked = [ticket for ticket, said in answers if isinstance(said, BreakerOpenError)]
        count = self._metrics.validated.labels
        for answer, number in (("yes", accepted), ("no", declined)):
            count(self._stock.sale_id, answer).inc(len(number))
        count(self._stock.sale_id, "none").inc(len(answers) - len(accepted) - len(declined))
        for _, said in answers:
            if isinstance(said, BaseException) and not isinstance(said, _EXPECTED):
                log.error("validator failed", sale=self._stock.sale_id, error=repr(said))
        if accepted:
            words = await self._until(
                lease, lambda: self._stock.reserve(lease.id, accepted, redrive_ms=self._settings.redrive_after_ms)
            )
            self._metrics.reserved.labels(self._stock.sale_id).inc(words.count("RESERVED"))
            self._note(lease, words)
        if declined:
            self._note(lease, await self._until(lease, lambda: self._stock.decline(lease.id, declined)))
        if not_asked:
            await self._give_back(lease, not_asked)

    async def _keep_apart(self, lease: _Lease, ticket: Admitted) -> None:
        """Leave a ticket whose probe failed under its lease, so that the next probe asks about the next in line.

        Fails that one too, the shop is away: the ticket of before goes back and its try does not count (L5). Is it
        answered, the shop is back, and is asked about this one again; if it is this ticket that it cannot answer, its
        lease ends, its tries are spent, and the line goes on. Without this it would be probed for ever.
        """
        before, self._probed = self._probed, (lease, ticket)
        if before is not None and before[1].ticket_id != ticket.ticket_id and before[0].ends > time.monotonic():
            await self._give_back(before[0], [before[1]])

    async def _give_back(self, lease: _Lease, tickets: list[Admitted]) -> None:
        ids = [ticket.ticket_id for ticket in tickets]
        self._note(lease, await self._until(lease, lambda: self._stock.give_back(lease.id, ids)))

    def _note(self, lease: _Lease, words: list[str]) -> None:
        """Log what should not happen: a lease that Redis had ended already, or no unit for an admitted ticket (L6)."""
        for word in ("STALE", "NO_UNIT"):
            if number := words.count(word):
                log.warning("tickets not decided", sale=self._stock.sale_id, lease=lease.id, word=word, tickets=number)

    async def _until(self, lease: _Lease, call: Callable[[], Awaitable[list[str]]]) -> list[str]:
        """Call a script until Redis answers or the lease is over; calling it again is safe (L2)."""
        left = lease.ends - time.monotonic()
        if left <= 0:
            raise UnavailableError("the lease ended before a decision could be written")
        return await retry(call, on=UnavailableError, attempts=1000, longest_s=0.5, within_s=left)


async def _ask(check: Check, ticket: Admitted) -> str:
    return await check(ticket)


def _said(asked: asyncio.Task[str]) -> Said:
    if asked.cancelled():
        return asyncio.CancelledError()
    return asked.exception() or asked.result()
