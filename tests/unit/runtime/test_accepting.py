"""Connections that wait are taken many at a time: one a turn would starve newcomers once turns get long."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any

import pytest

from fairline.runtime.accepting import Loop

WAITING = 100


class Echo(asyncio.Protocol):
    made = 0

    def connection_made(self, transport: Any) -> None:
        type(self).made += 1
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


def run(work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(work)


@pytest.fixture(autouse=True)
def none_yet() -> None:
    Echo.made = 0


def test_a_hundred_that_wait_are_taken_in_a_few_turns_and_are_served() -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=WAITING * 2)
        address = server.sockets[0].getsockname()
        with contextlib.ExitStack() as closing:
            clients = [closing.enter_context(socket.create_connection(address)) for _ in range(WAITING)]
            turns = 0
            while turns < WAITING and Echo.made != WAITING:
                turns += 1
                await asyncio.sleep(0)
            assert Echo.made == WAITING
            assert turns < WAITING / 4
            last = clients[-1]
            last.setblocking(False)
            last.send(b"here")
            async with asyncio.timeout(10):
                assert await asyncio.get_running_loop().sock_recv(last, 10) == b"here"
        server.close()
        await server.wait_closed()

    run(main())


def test_a_server_that_is_closed_takes_nobody_any_more() -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        assert server.is_serving()
        server.close()
        server.close()
        await server.wait_closed()
        assert not server.is_serving()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)

    run(main())


def test_a_client_that_is_gone_before_it_is_taken_does_no_harm() -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=WAITING)
        address = server.sockets[0].getsockname()
        for _ in range(20):
            gone = socket.create_connection(address)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
            gone.close()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"here")
        async with asyncio.timeout(10):
            assert await reader.read(10) == b"here"
        writer.close()
        server.close()
        await server.wait_closed()

    run(main())
