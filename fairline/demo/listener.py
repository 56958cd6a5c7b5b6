"""How a buyer hears of a ticket: one WebSocket, opened again when it was lost, until the outcome was told.

The protocol is the ``websockets`` library's, without the tasks and queues of its client: 262 us of CPU a connection
instead of 428 (handshake, two frames, close). Compression is off; a progress frame that came to several connections
is decoded once.
"""

import asyncio
import random
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State as SocketState
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from fairline.demo.http import Connection
from fairline.demo.log import Held, Log
from fairline.frames import SUBPROTOCOL, ByeFrame, CloseCode, ProgressFrame, TicketFrame
from fairline.states import State
from loadtest.recorder import Recorder

HANDSHAKE_WITHIN_S: Final = 15.0
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
ASK_WITHIN_S: Final = 2.0
LOST: Final = 1006  # what RFC 6455 calls a connection that ended without a close frame
_NOT_AGAIN: Final = (CloseCode.BAD_TOKEN, CloseCode.GARBAGE)
OK, _NO_SUCH_TICKET = 200, 404
_KINDS: Final = frozenset({"ticket", "progress", "bye"})


class _Status(msgspec.Struct):
    """What a ticket's status answers, as far as its buyer cares."""

    state: str


class _Kind(msgspec.Struct):
    type: str


status_of: Final = msgspec.json.Decoder(_Status).decode
_kind: Final = msgspec.json.Decoder(_Kind).decode
_ticket: Final = msgspec.json.Decoder(TicketFrame).decode
_bye: Final = msgspec.json.Decoder(ByeFrame).decode
_progress: Final = lru_cache(maxsize=64)(msgspec.json.Decoder(ProgressFrame).decode)


class _Wire(asyncio.Protocol):
    """One connection. ``over`` is its close code once it is gone, 1006 when nobody said one."""

    def __init__(self, url: str, held: Held, log: Log, history: Recorder, socket: int) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.opened.add_done_callback(_seen)  # where nobody waits any more
        self.over: asyncio.Future[int] = loop.create_future()
        self.retry_after_ms: int | None = None
        self.older = asyncio.Event()  # the ticket is of before a rebuild of the sale: its status is to be asked (D3)
        log.connections += 1
        self._held, self._log, self._history, self._socket = held, log, history, socket
        self._transport: asyncio.Transport | None = None
        self._protocol = ClientProtocol(
            parse_uri(url), subprotocols=[Subprotocol(SUBPROTOCOL), Subprotocol(held.token)], max_size=64_000
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._protocol.send_request(self._protocol.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        at_s = time.monotonic()
        self._protocol.receive_data(data)
        self._take(at_s)

    def eof_received(self) -> None:
        self._protocol.receive_eof()
        self._take(time.monotonic())

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(str(exc or "closed during the handshake")))
        if not self.over.done():
            said = self._protocol.close_rcvd  # also when the server cut the wire before the goodbye was complete
            self.over.set_result(LOST if said is None else said.code)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _take(self, at_s: float) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._hear(bytes(event.data), at_s)
        self._flush()
        if not self.opened.done():
            if self._protocol.handshake_exc is not None:
                self.opened.set_exception(ConnectionError(str(self._protocol.handshake_exc)))
            elif self._protocol.state is not SocketState.CONNECTING:  # open, or closed by the very same packet
                self.opened.set_result(None)

    def _flush(self) -> None:
        assert self._transport is not None  # noqa: S101 - flushed only after it was made
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()  # the protocol's way to say that nothing follows

    def _hear(self, data: bytes, at_s: float) -> None:
        self._log.frames += 1
        held, kind = self._held, _kind(data).type
        if kind not in _KINDS:
            return  # as every client does with what it does not know
        self._history.heard(self._socket, data)
        match kind:
            case "ticket":
                frame = _ticket(data)
                if frame.ticket_id == held.ticket_id:
                    held.hear(frame.state, at_s)
            case "progress":
                progress = _progress(data)
                if progress.epoch > held.epoch and progress.items and held.state == State.WAITING:
                    self.older.set()
            case "bye":
                self.retry_after_ms = _bye(data).retry_after_ms


def _seen(opened: "asyncio.Future[None]") -> None:
    if not opened.cancelled():
        opened.exception()


class Ear:
    """Everybody's sockets: how many handshakes at a time, how many sockets at all.

    Whoever was sent away or cut off listens ``elsewhere`` next, as a balancer in front would have it.
    """

    def __init__(
        self,
        log: Log,
        history: Recorder,
        *,
        handshakes: int = 64,
        sockets: int = 8_000,
        elsewhere: Callable[[str], str] = lambda url: url,
    ) -> None:
        self._log = log
        self._history = history
        self._elsewhere = elsewhere
        self._handshakes = asyncio.Semaphore(handshakes)
        self._sockets = asyncio.Semaphore(sockets)

    async def follow(self, held: Held) -> None:
        """Listen until the server closes after the outcome; runs until cancelled if that never comes."""
        failures = 0
        async with self._sockets:
            while True:
                code, pause_s = await self._once(held)
                if held.ended_s is not None or code in _NOT_AGAIN:
                    return
                if code == CloseCode.NOT_FOUND and await self._ask(held) == _NO_SUCH_TICKET:
                    return
                held.ws_url = self._elsewhere(held.ws_url)
                failures = failures + 1 if pause_s is None else 0
                longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**failures)
                await asyncio.sleep(pause_s if pause_s is not None else random.uniform(0, longest_s))  # noqa: S311

    async def _once(self, held: Held) -> tuple[int, float | None]:
        """One connection: its close code, and how long the server asks to stay away, if it does."""
        parts = urlsplit(held.ws_url)
        wire: _Wire | None = None
        socket, code = 0, LOST
        try:
            async with self._handshakes, asyncio.timeout(HANDSHAKE_WITHIN_S):
                socket = self._history.opening(held.ticket_id, where=parts.netloc)
                _, wire = await asyncio.get_running_loop().create_connection(
                    lambda: _Wire(held.ws_url, held, self._log, self._history, socket),
                    parts.hostname or "127.0.0.1",
                    parts.port or 80,
                )
                await wire.opened
            code = await self._hear_out(wire, held)
        except OSError:
            return LOST, None
        else:
            return code, None if wire.retry_after_ms is None else wire.retry_after_ms / 1000
        finally:
            if socket:
                self._history.closed(socket, code=code)
            if wire is not None:
                wire.close()

    async def _hear_out(self, wire: _Wire, held: Held) -> int:
        """Until the connection is over. A ticket of before a rebuild asks its status, so that its buyer is seen."""
        while not wire.over.done():
            older = asyncio.create_task(wire.older.wait())
            either: set[asyncio.Future[Any]] = {wire.over, older}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            older.cancel()
            if wire.older.is_set() and not wire.over.done():
                await asyncio.sleep(random.uniform(0, ASK_WITHIN_S))  # noqa: S311 - not all at the same moment
                await self._ask(held)
                if held.ended_s is not None:  # as a page does: whatever the socket has still to say is older
                    wire.close()
                    return CloseCode.DONE
                wire.older.clear()
        return wire.over.result()

    async def _ask(self, held: Held) -> int:
        """Ask the status once; its HTTP status, 0 for no answer."""
        parts = urlsplit(held.status_url)
        async with self._handshakes:
            call = self._history.sent("status", ticket_id=held.ticket_id)
            try:
                with Connection(held.status_url) as connection:
                    answer = await connection.get(parts.path, token=held.token)
            except OSError as error:
                self._history.unknown(call, why=type(error).__name__)
                return 0
        self._history.answer(call, answer.status, answer.body, retry_after_s=answer.retry_after_s)
        if answer.status == OK:
            held.hear(status_of(answer.body).state, time.monotonic())
        return answer.status
