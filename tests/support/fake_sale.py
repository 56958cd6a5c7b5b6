"""A gateway and a notifier in memory, on one loopback port: enough of the contract to try a client against.

Sells in the order of joins, tells everything at once; ``bad_joins`` and ``bad_sockets`` say what happens first.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSCloseCode, web

from fairline.frames import SUBPROTOCOL, CloseCode

Json = dict[str, Any]
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FakeSale:
    """One sale with ``stock`` units of every sku."""

    def __init__(self, *, stock: int) -> None:
        self.stock = stock
        self.url = ""
        self.by_key: dict[str, Json] = {}
        self.tickets: dict[str, Json] = {}
        self.asked: list[tuple[str, Json]] = []
        self.bad_joins: list[Answer] = []
        self.bad_sockets: list[Callable[[web.WebSocketResponse], Awaitable[object]]] = []
        self.before_end: list[Json] = []
        self.statuses: list[str] = []

    async def join(self, request: web.Request) -> web.StreamResponse:
        key, body = request.headers["Idempotency-Key"], await request.json()
        self.asked.append((key, body))
        if self.bad_joins:
            return await self.bad_joins.pop(0)(request)
        return web.json_response(self.ticket(key, body), status=202)

    def ticket(self, key: str, body: Json) -> Json:
        """The ticket of a request; the same for the same key."""
        if key not in self.by_key:
            number = len(self.by_key) + 1
            ticket_id = f"00000000-0000-0000-0000-{number:012}"
            sold = sum(each["sku"] == body["sku"] for each in self.tickets.values())
            won = sold < self.stock
            self.tickets[ticket_id] = {
                "ticket_id": ticket_id,
                "sku": body["sku"],
                "state": "CONFIRMED" if won else "SOLD_OUT",
                "reason": None,
                "units": [sold + 1] if won else [],
                "arrival": number,
            }
            self.by_key[key] = {
                "ticket_id": ticket_id,
                "token": f"token-{number}",
                "arrival": number,
                "position": number,
                "state": "WAITING",
                "reason": None,
                "status_url": f"{self.url}/sales/fake/tickets/{ticket_id}",
                "ws_url": f"{self.url.replace('http', 'ws')}/ws/{ticket_id}",
            }
        return self.by_key[key]

    async def status(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"].startswith("Bearer token-")
        self.statuses.append(request.match_info["ticket"])
        return web.json_response(self.tickets[request.match_info["ticket"]])

    async def tell(self, request: web.Request) -> web.StreamResponse:
        ticket = self.tickets[request.match_info["ticket"]]
        socket = web.WebSocketResponse(protocols=[SUBPROTOCOL], compress=False)
        await socket.prepare(request)
        if self.bad_sockets:
            await self.bad_sockets.pop(0)(socket)
            return socket
        frame = {
            "type": "ticket",
            "sale_id": "fake",
            "quantity": 1,
            "number": ticket["arrival"],
            "epoch": 0,
            "final": False,
            **ticket,
        }
        await socket.send_json({**frame, "state": "WAITING", "units": []})
        for extra in self.before_end:
            await socket.send_json(extra)
        await socket.send_json({**frame, "final": True})
        await socket.close(code=CloseCode.DONE)
        return socket


@asynccontextmanager
async def fake_sale(*, stock: int = 2) -> AsyncIterator[FakeSale]:
    """Serves until the block ends."""
    sale = FakeSale(stock=stock)
    app = web.Application()
    app.router.add_post("/sales/{sale}/tickets", sale.join)
    app.router.add_get("/sales/{sale}/tickets/{ticket}", sale.status)
    app.router.add_get("/ws/{ticket}", sale.tell)
    async with serving(app) as url:
        sale.url = url
        yield sale


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The address of an application on a free loopback port."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def refuse(status: int, code: str, *, retry_after: str | None = None) -> web.StreamResponse:
    """A problem document."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return web.json_response({"code": code}, status=status, headers=headers, content_type="application/problem+json")


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Cut the connection instead of answering."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)
    raise ConnectionResetError


async def go_away(socket: web.WebSocketResponse) -> None:
    """Say goodbye before anything was told."""
    await socket.send_json({"type": "bye", "retry_after_ms": 10})
    await socket.close(code=WSCloseCode.GOING_AWAY)
