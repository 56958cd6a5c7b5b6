"""Tells everybody of a sale how far its line has come: one look at Redis and one encoding a tick, however many listen.

A tick comes every ``tick_ms``, and ``early_ms`` after something moved. Early ticks take at most a tenth of this
process's time, ticks at most half of it: with very many clients they come later instead of piling up.

While Redis does not answer, or the sale is halted, each tick says ``recovering`` and nothing else; when that is over,
every ticket is read again, because it may have gone back.
"""

import asyncio
import contextlib
import time
from datetime import datetime
from typing import Final

from fairline import clock
from fairline.errors import FencedError, UnavailableError
from fairline.frames import Place, ProgressFrame
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import cancelled
from fairline.states import SaleState
from fairline.store.replies import LookReply
from fairline.store.room import Room
from fairline.store.tickets import ARRIVALS_AN_EPOCH
from notifier.hub import Audience
from notifier.settings import NotifierSettings
from notifier.wire import packed

CHUNK: Final = 500  # connections written to before others get their turn: about 5 ms
EARLY_SHARE: Final = 9  # rest after an early tick, in times of what the last one took
SHARE: Final = 1  # likewise after any tick
RECOVERING: Final = "The sale is being checked and goes on shortly. Your place is kept."


def progress_of(sale_id: str, seen: LookReply, skus: tuple[str, ...]) -> ProgressFrame:
    """The shared frame of a look; rows and skus are in the same order."""
    meta = seen.meta
    epoch = int(meta["epoch"])
    return ProgressFrame(
        sale_id=sale_id,
        state=SaleState(meta["state"]).value,
        message=meta.get("message") or None,
        rate=float(meta["rate"]) if meta.get("rate") else None,
        epoch=epoch,
        tail=epoch * ARRIVALS_AN_EPOCH + int(meta["seq"]),
        items={
            sku: Place(served=row.served, waiting=row.waiting, older=row.older, outlook=row.outlook)
            for sku, row in zip(skus, seen.rows, strict=True)
        },
        server_time=_written(clock.at(seen.now_ms)),
    )


def recovering_after(sale_id: str, last: ProgressFrame | None) -> ProgressFrame:
    """What is said while nothing is known: the state, and no place of any line."""
    return ProgressFrame(
        sale_id=sale_id,
        state=SaleState.RECOVERING.value,
        message=RECOVERING,
        rate=None,
        epoch=last.epoch if last else 0,
        tail=last.tail if last else 0,
        items={},
        server_time=_written(clock.at(clock.now_ms())),
    )


def _written(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Progress:
    """The ticks of all sales that have an audience."""

    def __init__(self, room: Room, metrics: Metrics, settings: NotifierSettings) -> None:
        self._room = room
        self._metrics = metrics
        self._tick_s = settings.tick_ms / 1000
        self._early_s = settings.early_ms / 1000
        self._patience_s = settings.patience_ms / 1000

    async def work(self, audience: Audience) -> None:
        """Tick for one sale until cancelled."""
        last: ProgressFrame | None = None
        halted = False
        looking: asyncio.Task[ProgressFrame | None] | None = None
        try:
            while True:
                started = time.monotonic()
                looking = looking or asyncio.create_task(self._look(audience.sale_id), name="look")
                # Not cancelled when it takes too long: the next tick may find its answer.
                await asyncio.wait({looking}, timeout=self._tick_s if halted else self._patience_s)
                frame: ProgressFrame | None = None
                if looking.done():
                    frame, looking = looking.result(), None
                if frame is not None and halted:
                    audience.reread()
                halted, last = frame is None, frame or last
                took_s = await self._tell(audience, frame or recovering_after(audience.sale_id, last), halted=halted)
                self._metrics.tick_s.observe(took_s)
                await self._rest(audience, started, took_s)
        finally:
            if looking is not None:
                await cancelled(looking)

    async def _look(self, sale_id: str) -> ProgressFrame | None:
        """How the sale stands; nothing while that cannot be said."""
        try:
            seen = await self._room.look(sale_id)
            skus = await self._room.skus(sale_id)
        except (FencedError, UnavailableError):
            return None
        # A genuine token has brought us here, so a sale that Redis does not know is one that it has lost.
        return None if seen is None or skus is None else progress_of(sale_id, seen, skus)

    async def _tell(self, audience: Audience, frame: ProgressFrame, *, halted: bool) -> float:
        """Send it to all; the seconds that this took of the process's time."""
        wire = packed(frame)
        audience.progress = None if halted else wire
        clients = [*audience.greeted, *audience.new] if halted else list(audience.greeted)
        took_s = 0.0
        for at in range(0, len(clients), CHUNK):
            if at:
                await asyncio.sleep(0)
            began = time.perf_counter()
            chunk = clients[at : at + CHUNK]
            sent = sum(client.mailbox.put_progress(wire) for client in chunk)
            self._metrics.frames.labels("progress").inc(sent)
            self._metrics.frames_skipped.inc(len(chunk) - sent)
            took_s += time.perf_counter() - began
        return took_s

    async def _rest(self, audience: Audience, started: float, took_s: float) -> None:
        """Until the next tick is due, or an early one."""
        ended = time.monotonic()
        due = max(started + self._tick_s, ended + SHARE * took_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(due - ended):
                await audience.stirred.wait()
        if audience.stirred.is_set():
            now = time.monotonic()
            early = max(now + self._early_s, ended + EARLY_SHARE * took_s)
            await asyncio.sleep(max(0.0, min(early, due) - now))
        audience.stirred.clear()
