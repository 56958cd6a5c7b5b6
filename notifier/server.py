"""Lets clients in, takes their tokens, keeps them within limits, and sends them away when the process stops.

Owns the listening socket and the connections. One task a connection, the library's own, which only reads: all writing
is done by whoever has something to tell, without waiting. When it stops it takes no new client, tells each when to come
back, closes, and cuts what is still open shortly before ``drain_s`` is over.

What must never happen: a token in a log; a wait for a client without a limit.
"""

import asyncio
import contextlib
import functools
import http
import logging
import random
import socket
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from fairline.errors import TokenError
from fairline.frames import ByeFrame, CloseCode
from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.runtime.open_files import FILES_BESIDE, most_connections
from fairline.tokens import TokenKeys
from notifier import handshake
from notifier.hub import Client, Hub
from notifier.mailbox import Mailbox
from notifier.settings import NotifierSettings
from notifier.wire import TicketConnection, packed

MAX_MESSAGE_BYTES: Final = 4096  # a token is about 400
MAX_QUEUE: Final = 2
BACKLOG: Final = 4096
LIFE_SPREAD: Final = 0.2
DRAIN_SHARE: Final = 0.8  # of drain_s; the rest is for cutting what is left
RECONNECTS_A_SECOND: Final = 1_000  # of one copy's clients: half of what another can take besides its work
CHUNK: Final = 500
MINUTE_S: Final = 60.0


class NotifierServer:
    """The listener as a service, and the ``Door`` of its connections."""

    def __init__(
        self,
        hub: Hub,
        keys: TokenKeys,
        metrics: Metrics,
        settings: NotifierSettings,
        *,
        listening: Callable[[int], None] = lambda _: None,
        draining: Callable[[], None] = lambda: None,
    ) -> None:
        self.slow_limit_s = settings.slow_limit_s
        self.cut_after_s = settings.close_timeout_s
        self._hub = hub
        self._keys = keys
        self._metrics = metrics
        self._settings = settings
        self._listening = listening
        self._draining = draining
        self._most = most_connections(settings.max_connections)
        metrics.connections_limit.set(self._most)
        self._open = 0
        self._server: Server | None = None

    # Door

    def opened(self) -> bool:
        """Beyond the limit a few may stay for as long as it takes to tell them so."""
        self._open += 1
        return self._open <= self._most + FILES_BESIDE // 2

    def gone(self) -> None:
        """One less."""
        self._open -= 1

    def closing(self, code: int) -> None:
        """Count it."""
        self._metrics.closed.labels(str(code)).inc()

    # Service

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until stopping, then drain; raises ``OSError`` when the port cannot be had."""
        settings = self._settings
        async with contextlib.AsyncExitStack() as closing:
            sock = closing.enter_context(_bound(settings.host, settings.port, settings.send_buffer_bytes))
            self._server = await serve(
                self._handle,
                sock=sock,
                backlog=BACKLOG,
                origins=handshake.origins_of(settings.origins),
                select_subprotocol=self._select,
                compression=None,
                process_request=self._admit,
                server_header=None,
                open_timeout=settings.open_timeout_s,
                ping_interval=settings.ping_interval_s,
                ping_timeout=settings.ping_timeout_s,
                close_timeout=settings.close_timeout_s,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=MAX_QUEUE,
                write_limit=settings.write_buffer_bytes,
                logger=_quiet_logger(),
                create_connection=functools.partial(TicketConnection, door=self),  # type: ignore[arg-type]  # a factory does
            )
            self._listening(sock.getsockname()[1])
            logs.get(__name__).info("listening", host=settings.host, port=sock.getsockname()[1], most=self._most)
            await stopping.wait()
            await self._drain(self._server)

    async def _drain(self, server: Server) -> None:
        self._draining()
        server.close(close_connections=False)
        connections = list(server.all_connections)
        spread_s = min(self._settings.reconnect_spread_s, len(connections) / RECONNECTS_A_SECOND)
        spread_ms = round(spread_s * 1000)
        logs.get(__name__).info("draining", connections=len(connections))
        for at, connection in enumerate(connections):
            if isinstance(connection, TicketConnection):
                connection.write(packed(ByeFrame(retry_after_ms=random.randint(0, spread_ms))))  # noqa: S311 - a spread, no secret
                connection.shut(CloseCode.GOING_AWAY)
            if at % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
        try:
            async with asyncio.timeout(self._settings.drain_s * DRAIN_SHARE):
                await server.wait_closed()
        except TimeoutError:
            for connection in list(server.all_connections):
                connection.transport.abort()
            await server.wait_closed()

    # A connection, in the order of its life

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer in place of the upgrade, or nothing to let it go on."""
        place = handshake.place_of(request.path)
        if place is None:
            return handshake.problem(
                http.HTTPStatus.NOT_FOUND, "not_found", "There is only /sales/{sale_id}/tickets/{ticket_id}."
            )
        if not handshake.wants_websocket(request):
            return handshake.problem(
                http.HTTPStatus.UPGRADE_REQUIRED,
                "upgrade_required",
                "This is a WebSocket; a ticket's state by plain HTTP is at its status_url.",
                Upgrade="websocket",
            )
        if self._open > self._most:
            return handshake.problem(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                "overloaded",
                "Too many connections here; try again, or ask the status_url.",
                Retry_After=str(random.randint(1, 5)),  # noqa: S311 - a spread, no secret
            )
        assert isinstance(connection, TicketConnection)  # noqa: S101 - for the type checker; we made it
        connection.place = place
        return None

    def _select(self, connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        assert isinstance(connection, TicketConnection)  # noqa: S101 - as above
        chosen, connection.offered = handshake.select(offered)
        return chosen

    async def _handle(self, connection: ServerConnection) -> None:
        """From the upgrade to the end; never raises for anything a client does."""
        assert isinstance(connection, TicketConnection)  # noqa: S101 - as above
        budget = _Budget(self._settings.messages_per_min)
        try:
            client = await self._know(connection, budget)
            if client is not None:
                await self._serve(connection, client, budget)
        except ConnectionClosed:
            return
        except TokenError:
            connection.shut(CloseCode.BAD_TOKEN)
        except (msgspec.DecodeError, RecursionError):
            connection.shut(CloseCode.GARBAGE)

    async def _know(self, connection: TicketConnection, budget: "_Budget") -> Client:
        """Whose connection this is. Raises ``TokenError`` when it cannot show that in time."""
        sale_id, ticket_id = connection.place
        if len(connection.offered) > 1:
            raise TokenError
        token = connection.offered[0] if connection.offered else await self._hello(connection, budget)
        claims = self._keys.check(token, sale_id=sale_id, ticket_id=ticket_id)
        connection.forget_handshake()
        connection.mailbox = Mailbox(connection, limit=self._settings.mailbox_results)
        return Client(ticket_id=ticket_id, sku=claims.sku, mailbox=connection.mailbox, finish_in=connection.finish_in)

    async def _hello(self, connection: TicketConnection, budget: "_Budget") -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.hello_timeout_s):
                while True:
                    budget.spend()
                    token = handshake.hello_of(await connection.recv())
                    if token is not None:
                        return token
        raise TokenError

    async def _serve(self, connection: TicketConnection, client: Client, budget: "_Budget") -> None:
        life_s = self._settings.connection_life_s * random.uniform(1 - LIFE_SPREAD, 1 + LIFE_SPREAD)  # noqa: S311 - a spread, no secret
        connection.finish_in(life_s, CloseCode.TOO_OLD)
        audience = self._hub.attach(connection.place[0], client)
        self._metrics.connections.inc()
        try:
            while True:
                with contextlib.suppress(TokenError):  # a second hello changes nothing
                    handshake.hello_of(await connection.recv())
                budget.spend()
        finally:
            self._metrics.connections.dec()
            self._hub.detach(audience, client)


class _Budget:
    """How many more messages a client may send in this minute; they are all pointless after the first."""

    def __init__(self, a_minute: int) -> None:
        self._a_minute = a_minute
        self._left = a_minute
        self._since = asyncio.get_running_loop().time()

    def spend(self) -> None:
        """Count one; raises ``msgspec.DecodeError`` when there were too many."""
        now = asyncio.get_running_loop().time()
        if now - self._since >= MINUTE_S:
            self._left, self._since = self._a_minute, now
        self._left -= 1
        if self._left < 0:
            raise msgspec.DecodeError("too many messages")


def _bound(host: str, port: int, send_buffer_bytes: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.create_server((host, port), family=family, backlog=BACKLOG)
    # Inherited by every connection: otherwise the kernel takes up to 4 MB for a client that reads nothing.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    sock.setblocking(False)
    return sock


def _quiet_logger() -> logging.Logger:
    # At debug level the library writes the headers of every handshake, and a header carries the token.
    logger = logging.getLogger("notifier.websockets")
    logger.setLevel(logging.WARNING)
    return logger
