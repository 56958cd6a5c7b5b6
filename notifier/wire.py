"""One WebSocket as the rest of the notifier writes to it, and how a frame becomes bytes once for everybody.

``websockets`` does the protocol; what is added here is that a frame is packed once and written to any number of
connections without a task or a copy for each, that a connection knows when it is slow, and that closing never waits.
"""

import asyncio
from typing import Any, Final, Protocol

import msgspec
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.protocol import State

from fairline.frames import CloseCode
from notifier.mailbox import Mailbox

_encode: Final = msgspec.json.Encoder().encode
_NO_HEADERS: Final = Headers()


def packed(frame: msgspec.Struct) -> bytes:
    """The bytes of a frame on the wire, the same for every connection: no mask, no compression, never in fragments."""
    return Frame(Opcode.TEXT, _encode(frame)).serialize(mask=False)


class Door(Protocol):
    """Whoever counts connections and says how long things may last."""

    slow_limit_s: float
    cut_after_s: float

    def opened(self) -> bool:
        """A TCP connection is there; whether it may stay."""

    def gone(self) -> None:
        """A TCP connection is gone."""

    def closing(self, code: int) -> None:
        """We close a WebSocket."""


class TicketConnection(ServerConnection):
    """A ``Wire``. Lives from the TCP connection to its end."""

    def __init__(self, *args: Any, door: Door, **limits: Any) -> None:
        super().__init__(*args, **limits)
        self.place: tuple[str, str] = ("", "")  # sale and ticket of the path, once the request was read
        self.offered: tuple[str, ...] = ()  # subprotocols beside our own, that is, the token
        self.mailbox: Mailbox | None = None
        self._door = door
        self._slow: asyncio.TimerHandle | None = None
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def blocked(self) -> bool:
        """Whether the unsent bytes have reached ``write_buffer_bytes``, and not fallen to a quarter of it since."""
        return self.paused

    def write(self, frame: bytes) -> None:
        """Send a packed frame."""
        # What the library would do, without making the bytes again: nothing of ours is ever sent in fragments.
        if self.protocol.state is State.OPEN:
            self.transport.write(frame)

    def shut(self, code: int) -> None:
        """Send a close frame now, cut the connection when the client has not answered it after ``cut_after_s``."""
        # Not close(): that waits, without a limit, until a client reads that may never read again.
        if self.protocol.state is not State.OPEN:
            return
        self.protocol.send_close(code)
        self.send_data()
        self._door.closing(code)
        self._timers.append(self.loop.call_later(self._door.cut_after_s, self.transport.abort))

    def forget_handshake(self) -> None:
        """Drop the headers, with the token among them: they are not needed again, and are kilobytes a connection."""
        for message in (self.request, self.response):
            if message is not None:
                message.headers = _NO_HEADERS
        self.offered = ()

    def finish_in(self, seconds: float, code: int) -> None:
        """Close with this code when the time has come and every result is out."""
        if self.mailbox is not None:
            self._timers.append(self.loop.call_later(seconds, self.mailbox.finish, code))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        super().connection_made(transport)
        self.recv_messages.resume = self._read_on
        if not self._door.opened():
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        for timer in (*self._timers, *filter(None, (self._slow,))):
            timer.cancel()
        self._door.gone()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Called by the transport: the client does not read as fast as we write."""
        super().pause_writing()
        # Nor do we read what it says: each ping would make a pong, and nothing bounds how many could wait.
        self.transport.pause_reading()
        self._slow = self.loop.call_later(self._door.slow_limit_s, self.shut, CloseCode.TOO_SLOW)

    def resume_writing(self) -> None:
        """Called by the transport: the client has read."""
        super().resume_writing()
        self._read_on()
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        if self.mailbox is not None:
            self.mailbox.flush()

    def _read_on(self) -> None:
        """Once neither we wait for the client to read, nor the library for its messages to be looked at."""
        if not (self.paused or self.recv_messages.paused or self.transport.is_closing()):
            self.transport.resume_reading()
