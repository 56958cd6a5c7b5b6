"""Tells each client its own ticket: the present state when it connects, and again when that has changed.

A move is heard from Redis, and the ticket is then read, so nothing is told that a status call would not answer too.
Everything that has to be read, for whatever reason, goes one way: it is marked in the sale's audience, and one task a
sale reads what is marked, up to ``read_batch`` tickets in one script call, one call at a time. What moves while it is
read is marked again. What cannot be read stays marked, and nobody is told anything about it meanwhile.
"""

import asyncio
from typing import Final

from fairline.errors import FencedError, UnavailableError
from fairline.frames import CloseCode, TicketFrame
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.states import SaleState
from fairline.store.room import Room
from fairline.store.tickets import Ticket
from notifier.hub import Audience, Hub
from notifier.settings import NotifierSettings
from notifier.wire import packed

RETRY_S: Final = 0.25


def frame_of(sale_id: str, ticket: Ticket) -> TicketFrame:
    """The personal frame of a ticket."""
    return TicketFrame(
        sale_id=sale_id,
        ticket_id=ticket.ticket_id,
        sku=ticket.sku,
        state=ticket.state.value,
        reason=ticket.reason,
        quantity=ticket.quantity,
        arrival=ticket.arrival,
        number=ticket.number,
        epoch=ticket.epoch,
        units=ticket.units,
        final=ticket.final,
    )


class Results:
    """The tickets of all sales that have an audience. A ``fairline.store.moved.Listener``."""

    def __init__(self, room: Room, hub: Hub, metrics: Metrics, settings: NotifierSettings) -> None:
        self._room = room
        self._hub = hub
        self._metrics = metrics
        self._batch = settings.read_batch
        self._grace_s = settings.done_grace_s

    def subscribed(self, sale_id: str) -> None:
        """Read everybody's ticket: it may have moved before we listened."""
        audience = self._hub.get(sale_id)
        if audience is not None:
            audience.reread()
            audience.stirred.set()

    def moved(self, sale_id: str, ticket_ids: list[str]) -> None:
        """Read those that are connected here."""
        audience = self._hub.get(sale_id)
        if audience is not None:
            audience.reread(ticket_ids)
            audience.stirred.set()

    def lost(self, error: Exception) -> None:
        """Say so; ``subscribed`` comes when it is back."""
        logs.get(__name__).warning("moves of tickets are not heard", error=repr(error))

    async def work(self, audience: Audience) -> None:
        """Read and tell for one sale until cancelled."""
        while True:
            await audience.unread.wait()
            batch = audience.take_unread(self._batch)
            try:
                tickets = await self._room.read(audience.sale_id, batch)
                gone = await self._why_gone(audience.sale_id) if None in tickets else CloseCode.NOT_FOUND
            except (FencedError, UnavailableError):
                audience.reread([ticket_id for ticket_id, _ in batch])
                await asyncio.sleep(RETRY_S)
                continue
            self._metrics.read_batch.observe(len(batch))
            for (ticket_id, _), ticket in zip(batch, tickets, strict=True):
                if ticket is None:
                    for client in audience.of(ticket_id):
                        client.mailbox.finish(gone)
                else:
                    self._tell(audience, ticket_id, ticket)

    async def _why_gone(self, sale_id: str) -> int:
        """The close code of a ticket that has no record. Of a closed sale it is in the archive (C2)."""
        seen = await self._room.look(sale_id)
        closed = seen is not None and seen.meta["state"] == SaleState.CLOSED
        return CloseCode.ARCHIVED if closed else CloseCode.NOT_FOUND

    def _tell(self, audience: Audience, ticket_id: str, ticket: Ticket) -> None:
        clients = audience.of(ticket_id)
        wire = packed(frame_of(audience.sale_id, ticket))
        for client in clients:
            if client.told == wire:
                continue
            client.told = wire
            client.mailbox.put_result(wire)
            self._metrics.frames.labels("ticket").inc()
            if audience.greet(client) and audience.progress is not None:
                client.mailbox.put_progress(audience.progress)
            if ticket.final:
                client.finish_in(self._grace_s, CloseCode.DONE)
