"""A wire between two processes that can be cut, slowed down, black-holed in one direction, and healed.

    proxy = Proxy(upstream_port, name="redis")
    await proxy.start(port)
    proxy.wire("admission").slow_s = 0.2         # of one client
    proxy.cut("admission")                       # resets every connection it has
    proxy.wire("admission").heal()
    await proxy.stop()

A proxy has one upstream and may serve several clients: each connection belongs to a *wire*, found by ``who``, which
looks at the first bytes the client sends (Kafka's clients say who they are), and to the proxy's only one without it.
A black hole keeps what has arrived until it is healed, as TCP does, which sends again. Everything is bounded: one chunk
in hand and one transport's buffer in each direction; a sender that gets no further is held up.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from fairline.local.ports import LOOPBACK
from fairline.runtime.services import cancelled

CHUNK: Final = 16_384
CONNECT_WITHIN_S: Final = 5.0
_RESET: Final = struct.pack("ii", 1, 0)
UP, DOWN = "up", "down"  # from the client to the server, and back


class Sees(Protocol):
    """What follows a conversation to know whether an answer is one that is to be lost."""

    def up(self, data: bytes) -> None:
        """Bytes of the client."""

    def down(self, data: bytes) -> bool:
        """Bytes of the server: whether an answer to lose is among them."""


class AnyAnswer:
    """Any answer will do."""

    def up(self, data: bytes) -> None:
        """Nothing to learn."""

    def down(self, data: bytes) -> bool:
        """Whatever the server says is an answer."""
        return bool(data)


class Wire:
    """The state of all connections of one client through a proxy. ``lost`` counts the answers that were lost."""

    def __init__(self) -> None:
        self.slow_s = 0.0
        self.refused = False
        self.to_lose = 0
        self.lost = 0
        self._open = {UP: asyncio.Event(), DOWN: asyncio.Event()}
        self.heal()

    def hole(self, direction: str) -> None:
        """Nothing gets through in this direction any more."""
        self._open[direction].clear()

    def heal(self) -> None:
        """All as it should be; what a hole kept comes through now. Connections that were cut stay cut."""
        self.slow_s, self.refused, self.to_lose = 0.0, False, 0
        for each in self._open.values():
            each.set()

    async def through(self, direction: str) -> None:
        """Come back when the next chunk may pass."""
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        await self._open[direction].wait()


class Proxy:
    """Listens on a loopback port and passes everything on to another one."""

    def __init__(
        self,
        upstream: int,
        *,
        name: str,
        who: Callable[[bytes], str] | None = None,
        sees: Callable[[], Sees] = AnyAnswer,
    ) -> None:
        self.name = name
        self.connections: Counter[str] = Counter()  # all there ever were, by wire
        self._upstream = upstream
        self._who = who
        self._sees = sees
        self._wires: dict[str, Wire] = {}
        self._ends: dict[asyncio.Task[None], str] = {}
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen; the port. The upstream need not be there yet."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, port, limit=CHUNK)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close everything; a second call is fine."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await cancelled(*self._ends)

    def wire(self, name: str = "") -> Wire:
        """The wire of one client."""
        return self._wires.setdefault(name, Wire())

    def cut(self, name: str = "") -> int:
        """Reset every connection of a wire; how many there were."""
        mine = [task for task, wire in self._ends.items() if wire == name]
        for task in mine:
            task.cancel()
        return len(mine)

    def heal(self) -> None:
        """All wires."""
        for wire in self._wires.values():
            wire.heal()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a connection is always served by a task
        self._ends[task] = ""
        ends = [writer]
        cut = True
        try:
            first = await reader.read(CHUNK) if self._who is not None else b""
            name = self._ends[task] = self._who(first) if self._who is not None else ""
            self.connections[name] += 1
            wire = self.wire(name)
            if wire.refused:
                return
            async with asyncio.timeout(CONNECT_WITHIN_S):
                from_server, to_server = await asyncio.open_connection(LOOPBACK, self._upstream, limit=CHUNK)
            ends.append(to_server)
            cut = await _conversation(wire, self._sees(), (reader, to_server), (from_server, writer), first)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # cut, or nobody there: the client finds its connection reset; it ends with its task either way
        finally:
            del self._ends[task]
            for end in ends:
                if cut and not end.transport.is_closing():  # with a reset, not with a goodbye
                    end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.transport.abort()


_Half = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _conversation(wire: Wire, sees: Sees, up: _Half, down: _Half, first: bytes) -> bool:
    """Until one side is done, whose last words are passed on first; whether it was cut instead."""

    def to_server(data: bytes) -> bool:
        sees.up(data)
        return True

    def to_client(data: bytes) -> bool:
        if not sees.down(data) or wire.to_lose == 0:
            return True
        wire.to_lose -= 1
        wire.lost += 1
        return False

    halves = [
        asyncio.create_task(_pass(wire, UP, up, to_server, first)),
        asyncio.create_task(_pass(wire, DOWN, down, to_client, b"")),
    ]
    try:
        done, _ = await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
        return any(half.result() for half in done)
    finally:
        await cancelled(*halves)


async def _pass(wire: Wire, direction: str, half: _Half, may_pass: Callable[[bytes], bool], data: bytes) -> bool:
    """Pass on to the end of the stream; whether it was cut before."""
    reader, writer = half
    try:
        writer.transport.set_write_buffer_limits(high=0)  # a chunk is with the kernel before the next one is read
        while data or (data := await reader.read(CHUNK)):
            if not may_pass(data):
                return True
            await wire.through(direction)
            writer.write(data)
            await writer.drain()
            data = b""
        await wire.through(direction)
    except (OSError, RuntimeError):  # the latter is uvloop's word for a transport that is closed
        return True
    return False
