"""Who is connected here, by sale and ticket, and what of them is still to be read. Pure: no I/O, no clock.

An ``Audience`` lives from the first client of a sale to its last; a sale that comes back gets a new one, so that what
still works for the old one can see that its time is over.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from notifier.mailbox import Mailbox


class Client:
    """One connection that has shown the token of its ticket. ``told`` is the last ticket frame it was sent."""

    __slots__ = ("finish_in", "mailbox", "sku", "ticket_id", "told")

    def __init__(self, *, ticket_id: str, sku: str, mailbox: Mailbox, finish_in: Callable[[float, int], None]) -> None:
        self.ticket_id: Final = ticket_id
        self.sku: Final = sku
        self.mailbox: Final = mailbox
        self.finish_in: Final = finish_in
        self.told: bytes | None = None


class Audience:
    """The clients of one sale.

    ``greeted`` have been told their ticket, ``new`` not yet. ``progress`` is the newest shared frame, of a sale that
    can be told of. ``stirred`` is set when something moved, ``unread`` while tickets wait to be read.
    """

    def __init__(self, sale_id: str) -> None:
        self.sale_id: Final = sale_id
        self.greeted: set[Client] = set()
        self.new: set[Client] = set()
        self.progress: bytes | None = None
        self.stirred: Final = asyncio.Event()
        self.unread: Final = asyncio.Event()
        self._by_ticket: dict[str, tuple[str, set[Client]]] = {}
        self._unread: dict[str, None] = {}  # keeps the order and each ticket once

    def __len__(self) -> int:
        return len(self.greeted) + len(self.new)

    def add(self, client: Client) -> None:
        """It belongs to the sale now, and its ticket is to be read."""
        self.new.add(client)
        self._by_ticket.setdefault(client.ticket_id, (client.sku, set()))[1].add(client)
        self._mark(client.ticket_id)

    def remove(self, client: Client) -> None:
        """It is gone; a second call changes nothing."""
        self.greeted.discard(client)
        self.new.discard(client)
        _, clients = self._by_ticket.get(client.ticket_id, ("", set()))
        clients.discard(client)
        if not clients:
            self._by_ticket.pop(client.ticket_id, None)
            self._unread.pop(client.ticket_id, None)

    def greet(self, client: Client) -> bool:
        """Its ticket has been told; whether that was the first time."""
        if client not in self.new:
            return False
        self.new.discard(client)
        self.greeted.add(client)
        return True

    def of(self, ticket_id: str) -> tuple[Client, ...]:
        """The connections of a ticket: none, one, or one for each window its buyer has open."""
        return tuple(self._by_ticket.get(ticket_id, ("", ()))[1])

    def reread(self, ticket_ids: list[str] | None = None) -> None:
        """Have these tickets read, where they are connected here; all of them when none are named."""
        for ticket_id in self._by_ticket if ticket_ids is None else ticket_ids:
            if ticket_id in self._by_ticket:
                self._mark(ticket_id)

    def take_unread(self, most: int) -> list[tuple[str, str]]:
        """The next (ticket_id, sku) to read. A ticket that moves while it is read is handed out again."""
        batch = [(ticket_id, self._by_ticket[ticket_id][0]) for ticket_id, _ in zip(self._unread, range(most))]  # noqa: B905 - the shorter counts
        for ticket_id, _ in batch:
            del self._unread[ticket_id]
        if not self._unread:
            self.unread.clear()
        return batch

    def _mark(self, ticket_id: str) -> None:
        self._unread[ticket_id] = None
        self.unread.set()


class Hub:
    """The audiences of this process."""

    def __init__(self) -> None:
        self._audiences: dict[str, Audience] = {}
        self._watchers: list[tuple[Callable[[Audience], None], Callable[[Audience], None]]] = []

    def watch(self, *, first: Callable[[Audience], None], last: Callable[[Audience], None]) -> None:
        """Have these called as a sale gets its audience, and as it loses it."""
        self._watchers.append((first, last))

    def __iter__(self) -> Iterator[Audience]:
        return iter(tuple(self._audiences.values()))

    def get(self, sale_id: str) -> Audience | None:
        """The audience of a sale, where there is one."""
        return self._audiences.get(sale_id)

    def attach(self, sale_id: str, client: Client) -> Audience:
        """A client is there."""
        audience = self._audiences.get(sale_id)
        if audience is None:
            audience = self._audiences[sale_id] = Audience(sale_id)
            audience.add(client)
            for first, _ in self._watchers:
                first(audience)
        else:
            audience.add(client)
        return audience

    def detach(self, audience: Audience, client: Client) -> None:
        """It is gone; a second call changes nothing."""
        audience.remove(client)
        if not len(audience) and self._audiences.get(audience.sale_id) is audience:
            del self._audiences[audience.sale_id]
            for _, last in self._watchers:
                last(audience)
