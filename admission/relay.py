"""Outbox -> Kafka, for one sale. At least once: an entry leaves the outbox only after the broker acknowledged it.

Reads the stream from its start each time, removes exactly the acknowledged ids, keeps no cursor and never trims (O1).
Of several copies one relays at a time: a short lock in Redis saves the others the work; nothing depends on it.
"""

import uuid
from typing import Final, cast

from redis.asyncio import Redis

from admission.settings import AdmissionSettings
from fairline.events import Fact, from_outbox
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.store.keys import SaleKeys
from fairline.store.room import answering
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
        self._metrics = metrics
        self._name = uuid.uuid4().hex

    async def run_once(self) -> int:
        """Send one batch; how many facts Kafka acknowledged. What it did not is sent again by the next call."""
        with answering():
            if not await self._is_mine():
                return 0
            found = await self._redis.xrange(self._keys.outbox, count=self._settings.relay_batch)
            length = await self._redis.xlen(self._keys.outbox) if found else 0
        entries = cast(list[tuple[bytes, dict[bytes, bytes]]], found)  # the driver's types allow for every option
        self._metrics.outbox.labels(self._sale_id).set(length)
        if not entries:
            return 0
        facts: list[Fact] = [from_outbox(fields[_FIELD]) for _, fields in entries]
        acknowledged = await self._writer.send(facts, timeout_s=self._settings.relay_timeout_ms / 1000)
        done = [entry for (entry, _), ok in zip(entries, acknowledged, strict=True) if ok]
        if not done:
            return 0
        with answering():
            await self._redis.xdel(self._keys.outbox, *done)
        self._metrics.relayed.labels(self._sale_id).inc(len(done))
        return len(done)

    async def _is_mine(self) -> bool:
        """Take or keep the lock. Not atomic, so two copies may both think so for a moment; that is only extra work."""
        if await self._redis.set(self._keys.relay, self._name, nx=True, px=LOCK_MS):
            return True
        if await self._redis.get(self._keys.relay) != self._name.encode():
            return False
        await self._redis.pexpire(self._keys.relay, LOCK_MS)
        return True
