"""Topics -> Postgres -> results: takes records, has them committed, tells, and only then lets the offset pass (V5).

    verdict committed -> dead letter acknowledged -> result acknowledged -> offset committed

A crash or an error between any two of these steps repeats the steps: whoever writes finds the row of the first time and
gives the same verdict again. What can become of a record:

* *later* for one record (its sale is not known yet): it is deferred and tried again; the others of its partition go
  on, but the offset does not pass it (V6). Where too many are deferred, an order is passed over: its ticket stays
  RESERVED and sends it again (O2, O3), so that a sale of which nothing can be written holds up no other. A partition
  with too many of what comes only once is read no further;
* *later* for all (Postgres or Kafka is away): the batch comes again; nothing is deferred, the lag shows it;
* *never* (Postgres refuses the data): halves of the batch are tried until the record is alone. It gets its attempts,
  counted in Postgres, with the others going on meanwhile; then it is given up: verdict ``failed`` where a ticket can be
  told, dead letter in any case (V4, V6). Where too many are given up (``limit``) it is *later* instead, for nothing
  of them is wrong then but Postgres.

Any number of copies may run: which of two comes first is decided by unique keys.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fairline.errors import UnavailableError
from fairline.events import Fact
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import loop
from fairline.stream.reader import EventReader, Partition, Record
from fairline.stream.writer import EventWriter
from order_service.attempts import Attempts
from order_service.dead_letters import send_dead_letters
from order_service.deferred import Deferred
from order_service.handling import Done, Handler, Outcome, Wait
from order_service.limit import Limit
from order_service.postgres import RefusedError
from order_service.settings import OrderServiceSettings

log = logs.get(__name__)

LATER: Final = (UnavailableError,)
PROBES: Final = 10  # deferred records tried a round while nothing is written: enough to see that Postgres is well again


@dataclass(frozen=True)
class GivenUp:
    """A dead letter to send."""

    record: Record
    reason: str
    attempts: int


@dataclass
class _Round:
    """What one round has committed and must tell."""

    done: list[Record] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    given_up: list[GivenUp] = field(default_factory=list)
    waiting: list[tuple[Record, str]] = field(default_factory=list)
    letter_owed: bool = False


class Writer:
    """One handler's loop in this process. ``clock`` is monotonic seconds."""

    def __init__(
        self,
        handler: Handler,
        *,
        reader: EventReader,
        publisher: EventWriter,
        attempts: Attempts,
        settings: OrderServiceSettings,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handler = handler
        self._reader = reader
        self._publisher = publisher
        self._attempts = attempts
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._publish_s = settings.publish_timeout_ms / 1000
        self._deferred = Deferred(
            first_s=settings.backoff_ms / 1000, longest_s=settings.longest_backoff_ms / 1000, most=settings.deferred
        )
        self._limit = Limit(in_a_row=settings.dead_letters_in_a_row, share=settings.dead_letters_share)
        self._stopped = ""  # what limit was reached, in words
        self._generation = reader.generation
        self._last: dict[Partition, Record] = {}  # of each partition, the last record that is done or deferred
        self._counted: dict[tuple[str, int, int], Record] = {}  # with failed attempts in Postgres

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until stopping; what is in hand is finished first. Then leave the group: others take over at once."""
        await loop(self.run_once, stopping, idle_s=0, later=LATER, name=type(self._handler).__name__)
        await self._reader.close()

    async def run_once(self) -> int:
        """One round; how many records it finished. Raises ``UnavailableError`` when it is to be repeated."""
        started = self._clock()
        due = self._deferred.due(started, PROBES if self._limit.in_a_row else self._settings.batch)
        patience = 0.0 if due else min(self._settings.poll_ms / 1000, self._deferred.next_due_s(started, 3600))
        batch = await self._reader.batch(self._settings.batch, patience)
        if self._reader.generation != self._generation:  # a rebalance: what was deferred comes again, here or elsewhere
            self._generation = self._reader.generation
            self._forget()
            due = []
        self._show_lag()
        if not due and not batch.records:
            return 0
        began = self._clock()
        try:
            this = await self._decide([*due, *batch])
            await self._tell(this)
        except UnavailableError:
            await self._reader.rewind(batch)
            raise
        await self._let_pass(this, batch.records)
        self._show_limit()
        self._metrics.write_s.observe(self._clock() - began)
        return len(this.done)

    def _forget(self) -> None:
        self._deferred.clear()
        self._last.clear()
        self._counted.clear()

    async def _decide(self, records: Sequence[Record]) -> _Round:
        this = _Round()
        readable: list[Record] = []
        try:
            for record in records:
                fault = self._handler.fault(record)
                if fault is None:
                    readable.append(record)
                else:
                    await self._suspect(record, fault, this)
            parts = [readable] if readable else []
            while parts:
                part = parts.pop()
                try:
                    outcomes = await self._handler.write(part)
                except RefusedError as error:
                    if len(part) == 1:
                        await self._suspect(part[0], str(error), this)
                    else:
                        parts += [part[len(part) // 2 :], part[: len(part) // 2]]
                    continue
                for record, outcome in zip(part, outcomes, strict=True):
                    self._note(record, outcome, this)
                self._limit.written(sum(isinstance(outcome, Done) for outcome in outcomes))
            if this.letter_owed:
                await self._find_owed(this)
        except UnavailableError:
            self._metrics.waiting_for_postgres.set(1)
            raise
        self._metrics.waiting_for_postgres.set(0)
        self._metrics.write_batch.observe(len(records))
        return this

    async def _suspect(self, record: Record, reason: str, this: _Round) -> None:
        """One more failed attempt of one record; the last one gives it up."""
        count = await self._attempts.count(record, reason, self._settings.attempts)
        self._counted[record.topic, record.partition, record.offset] = record
        if count < self._settings.attempts:
            log.warning("refused", **_ids(record), attempt=count, reason=reason)
            this.waiting.append((record, reason))
            return
        if too_many := self._limit.reached():
            this.waiting.append((record, f"{reason} ({too_many})"))
            return
        try:
            outcome = await self._handler.give_up(record)
        except RefusedError as error:  # V4: what Postgres cannot even take the failure of is *later*
            outcome = Wait(f"its failure cannot be written: {error}")
        if isinstance(outcome, Done):
            log.error("given up", **_ids(record), attempts=count, reason=reason)
            this.given_up.append(GivenUp(record, reason, count))
            self._limit.given_up((record.topic, record.partition, record.offset))
        self._note(record, outcome, this)

    async def _find_owed(self, this: _Round) -> None:
        """Dead letters of records that were given up by one who did not come to send them: died, most likely."""
        sending = {id(letter.record) for letter in this.given_up}
        for record, count, reason in await self._attempts.of(this.done):
            self._counted[record.topic, record.partition, record.offset] = record
            if count >= self._settings.attempts and id(record) not in sending:
                this.given_up.append(GivenUp(record, reason, count))

    def _note(self, record: Record, outcome: Outcome, this: _Round) -> None:
        if isinstance(outcome, Wait):
            this.waiting.append((record, outcome.why))
        else:
            this.done.append(record)
            this.facts.extend(outcome.facts)
            this.letter_owed |= outcome.given_up

    async def _tell(self, this: _Round) -> None:
        if this.given_up and not await send_dead_letters(self._publisher, this.given_up, self._publish_s):
            raise UnavailableError("dead letters were not acknowledged")
        for letter in this.given_up:
            self._metrics.dead_letters.labels(letter.record.topic).inc()
        if this.facts and not all(await self._publisher.send(this.facts, self._publish_s)):
            raise UnavailableError("results were not acknowledged")

    async def _let_pass(self, this: _Round, read: Sequence[Record]) -> None:
        now = self._clock()
        for record in read:
            self._last[record.where] = record
        self._deferred.drop(this.done)
        passed_over = self._defer(this.waiting, now)
        await self._reader.commit(self._last.values(), kept=self._deferred.records())
        counted = [
            record
            for record in (*this.done, *passed_over)
            if self._counted.pop((record.topic, record.partition, record.offset), None) is not None
        ]
        await self._attempts.forget(counted)
        stuck = self._deferred.stuck()
        self._reader.resume(set(self._last) - stuck)
        self._reader.pause(stuck)
        self._metrics.deferred.labels(type(self._handler).__name__).set(len(self._deferred))

    def _defer(self, waiting: Sequence[tuple[Record, str]], now: float) -> list[Record]:
        """Keep what must wait; those that are passed over instead, because they come again."""
        full, passed_over = self._deferred.full(), []
        for record, why in waiting:
            comes_again = self._handler.comes_again(record)
            if comes_again and record.where in full and record not in self._deferred:
                passed_over.append(record)
            elif self._deferred.keep(record, now, lasting=not comes_again):
                log.info("deferred", **_ids(record), why=why)
        if passed_over:
            log.warning("passed over until they are sent again", records=len(passed_over), **_ids(passed_over[-1]))
        return passed_over

    def _show_limit(self) -> None:
        before, self._stopped = self._stopped, self._limit.reached()
        if bool(before) == bool(self._stopped):
            return
        handler = type(self._handler).__name__
        self._metrics.giving_up_stopped.labels(handler).set(bool(self._stopped))
        if self._stopped:
            log.error("nothing more is given up: is Postgres well?", handler=handler, why=self._stopped)
        else:
            log.info("records that cannot be written are given up again", handler=handler)

    def _show_lag(self) -> None:
        for topic, behind in self._reader.lag().items():
            self._metrics.lag.labels(topic).set(behind + len(self._deferred))


def _ids(record: Record) -> dict[str, object]:
    key = (record.key or b"").decode(errors="replace")
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset, "key": key}
