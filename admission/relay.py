"""Outbox -> Kafka, for one sale. At least once: an entry leaves the outbox only after the broker acknowledged it.

Reads the stream from its start each time, removes exactly the acknowledged ids, keeps no cursor and never trims (O1).
Of several copies one relays at a time: a short lock in Redis saves the others the work; nothing depends on it.
"""

import contextlib
import time
import uuid
from typing import Final, cast

import msgspec
from redis.asyncio import Redis

from admission.settings import AdmissionSettings
from fairline.errors import UnavailableError
from fairline.events import Fact, from_outbox
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.store.client import answering
from fairline.store.keys import SaleKeys
from fairline.stream.writer import EventWriter

log = logs.get(__name__)

LOCK_MS: Final = 2_000
_FIELD: Final = b"fact"


class Relay:
    """The relay of one sale in this process."""

    def __init__(
        self, redis: Redis, writer: EventWriter, sale_id: str, settings: AdmissionSettings, metrics: Metrics
    ) -> None:
        self._redis = redis
        self._writer = writer
        self._sale_id = sale_id
        self._keys = SaleKeys(sale_id)
        self._settings = settings
        self._batch = settings.relay_batch
        self._metrics = metrics
        metrics.relayed.labels(sale_id)  # at zero, so that "nothing is acknowledged" can be seen
        self._name = uuid.uuid4().hex
        self._mine_until = 0.0
        self._unreadable: set[bytes] = set()

    async def run_once(self) -> int:
        """Send one batch; how many facts Kafka acknowledged. What it did not is sent again by a later call.

        Raises ``UnavailableError`` where it acknowledged none at all, so that the caller backs off.
        """
        with answering():
            length = await self._redis.xlen(self._keys.outbox)
            self._metrics.outbox.labels(self._sale_id).set(length)
            if not length or not await self._is_mine():
                return 0
            found = await self._redis.xrange(self._keys.outbox, count=self._batch + len(self._unreadable))
        entries = self._read(cast(list[tuple[bytes, dict[bytes, bytes]]], found))  # its types allow for every option
        if not entries:
            await self.release()  # another copy, a newer one, may be able to read what is there
            return 0
        facts = [fact for _, fact in entries]
        acknowledged = await self._writer.send(facts, timeout_s=self._settings.relay_timeout_ms / 1000)
        done = [entry for (entry, _), ok in zip(entries, acknowledged, strict=True) if ok]
        self._fit(len(facts), len(done))
        if not done:
            await self.release()  # another copy may reach the Kafka that this one does not
            raise UnavailableError(f"Kafka acknowledged none of {len(facts)} facts")
        with answering():
            await self._redis.xdel(self._keys.outbox, *done)
        self._metrics.relayed.labels(self._sale_id).inc(len(done))
        return len(done)

    def _fit(self, sent: int, acknowledged: int) -> None:
        """Send half as much where Kafka took nothing in time, and twice as much again, up to the limit, where it did.

        Otherwise a slow Kafka would be sent the same large batch for ever, and with each that it does not take in time
        the producer is thrown away that all sales share.
        """
        if not acknowledged:
            self._batch = max(1, self._batch // 2)
        elif acknowledged == sent:
            self._batch = min(self._settings.relay_batch, 2 * self._batch)

    async def release(self) -> None:
        """Let another copy take over at once. It may overlap with that copy, which is only extra work."""
        self._mine_until = 0.0
        with contextlib.suppress(UnavailableError), answering():
            if await self._redis.get(self._keys.relay) == self._name.encode():
                await self._redis.delete(self._keys.relay)

    async def _is_mine(self) -> bool:
        """Take or keep the lock. Not atomic, so two copies may both think so for a moment; that is only extra work."""
        if time.monotonic() < self._mine_until:
            return True
        asked_at = time.monotonic()
        if not await self._redis.set(self._keys.relay, self._name, nx=True, px=LOCK_MS):
            if await self._redis.get(self._keys.relay) != self._name.encode():
                return False
            await self._redis.pexpire(self._keys.relay, LOCK_MS)
        self._mine_until = asked_at + LOCK_MS / 2000
        return True

    def _read(self, found: list[tuple[bytes, dict[bytes, bytes]]]) -> list[tuple[bytes, Fact]]:
        """What can be read. The rest stays where it is and holds up nothing else: it may be of a newer version."""
        entries: list[tuple[bytes, Fact]] = []
        for entry, fields in found:
            try:
                entries.append((entry, from_outbox(fields[_FIELD])))
            except (msgspec.MsgspecError, ValueError, KeyError) as error:
                if entry not in self._unreadable:
                    log.error("no fact", sale=self._sale_id, entry=entry.decode(), error=repr(error))  # noqa: TRY400
                    self._unreadable.add(entry)  # at most as many as the outbox may hold
        return entries
