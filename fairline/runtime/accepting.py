"""The event loop of every process: uvloop's, which besides takes all the connections that wait, not one a turn.

libuv accepts one connection in a turn of the loop. When the turns get long, under load, that is a few dozen a second:
the queue of the listening socket overflows, and new buyers wait for the retries of their TCP, a second and more, while
those who are connected are served. So every listening socket is watched a second time, and emptied.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, Final

import uvloop

MOST_A_TURN: Final = 64  # about 5 ms of connecting; then those who are connected get their turn

Factory = Callable[[], asyncio.BaseProtocol]


class Loop(uvloop.Loop):
    """uvloop's loop whose servers take up to ``MOST_A_TURN`` connections a turn."""

    async def create_server(self, protocol_factory: Factory, *args: Any, **more: Any) -> Any:
        """As the base class; sockets with TLS are left to it."""
        server = await super().create_server(protocol_factory, *args, **more)
        return server if more.get("ssl") else _Server(self, server, protocol_factory)


class _Server:
    """A server of uvloop's, and those who take what it leaves waiting."""

    def __init__(self, loop: Loop, server: Any, factory: Factory) -> None:
        self._loop = loop
        self._server = server
        self._factory = factory
        self._connecting: set[asyncio.Task[Any]] = set()
        # The same sockets under other numbers: libuv watches a number once.
        self._watched = [socket.socket(fileno=os.dup(each.fileno())) for each in server.sockets]
        for watched in self._watched:
            watched.setblocking(False)
            loop.add_reader(watched, self._take, watched)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def close(self) -> None:
        """Stop listening. A second call does nothing more."""
        while self._watched:
            watched = self._watched.pop()
            self._loop.remove_reader(watched)
            watched.close()
        self._server.close()

    def _take(self, watched: socket.socket) -> None:
        for _ in range(MOST_A_TURN):
            try:
                connection, _peer = watched.accept()
            except OSError:  # nobody waits; or there are no files left, and libuv sends them away
                return
            connection.setblocking(False)
            with contextlib.suppress(OSError):  # a socket of the file system has no such thing
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._loop.create_task(self._connect(connection), name="accept")
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError:  # gone already
            connection.close()
