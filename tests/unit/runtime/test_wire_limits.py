"""A connection that never finishes a request's head costs a bounded time, memory and place."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from fairline.runtime.health import HttpServer
from fairline.runtime.wire_limits import LimitedProtocol

REQUEST = b"GET / HTTP/1.1\r\nhost: here\r\n"


class Tight(LimitedProtocol):
    max_head_bytes = 4096
    head_s = 0.3
    max_connections = 3


class Loose(LimitedProtocol):
    max_head_bytes = 4096
    head_s = 60.0


async def hello(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def serving(protocol: type[LimitedProtocol]) -> AsyncIterator[int]:
    server = HttpServer(hello, host="127.0.0.1", port=0, drain_s=1, protocol=protocol)
    stopping = asyncio.Event()
    task = asyncio.create_task(server.run(stopping))
    async with asyncio.timeout(20):
        while not server.server.started:  # noqa: ASYNC110 - uvicorn has a flag, and no event
            await asyncio.sleep(0.005)
    try:
        yield server.server.servers[0].sockets[0].getsockname()[1]
    finally:
        stopping.set()
        await task


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(20):
        return await reader.read(-1)


async def test_requests_within_the_limits_are_answered_one_after_another() -> None:
    async with serving(Loose) as port, connected(port) as (reader, writer):
        for _ in range(3):
            writer.write(REQUEST + b"x: " + b"y" * 2000 + b"\r\n\r\n")
            async with asyncio.timeout(20):
                assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"GET / HTT", REQUEST])
async def test_a_head_that_does_not_come_to_an_end_is_given_up(sent: bytes) -> None:
    async with serving(Tight) as port, connected(port) as (reader, writer):
        writer.write(sent)
        said = await answer(reader)
        assert said.startswith(b"HTTP/1.1 408")
        assert b'"code":"slow_request"' in said


async def test_a_second_request_has_its_own_time() -> None:
    async with serving(Tight) as port, connected(port) as (reader, writer):
        writer.write(REQUEST + b"\r\n")
        async with asyncio.timeout(20):
            await reader.readuntil(b"hello")
        writer.write(REQUEST)
        assert (await answer(reader)).startswith(b"HTTP/1.1 408")


async def test_headers_without_end_are_refused() -> None:
    async with serving(Loose) as port, connected(port) as (reader, writer):
        writer.write(REQUEST)
        for number in range(1000):
            writer.write(b"x-%d: " % number + b"y" * 1000 + b"\r\n")
            if reader.at_eof() or writer.is_closing():
                break
            try:
                await writer.drain()
            except ConnectionError:
                break
        try:
            said = await answer(reader)
        except ConnectionError:  # it was closed with bytes of ours unread
            return
        assert said.startswith(b"HTTP/1.1 431")
        assert b'"code":"headers_too_large"' in said


async def test_a_connection_too_many_is_told_to_come_back() -> None:
    async with (
        serving(Tight) as port,
        connected(port),
        connected(port),
        connected(port),
        connected(port) as (reader, _),
    ):
        said = await answer(reader)
        assert said.startswith(b"HTTP/1.1 503")
        assert re.search(rb"retry-after: [2-5]\r\n", said)


async def test_what_is_no_http_is_told_so_in_a_problem() -> None:
    async with serving(Loose) as port, connected(port) as (reader, writer):
        writer.write(b"NONSENSE\r\n\r\n")
        said = await answer(reader)
        assert said.startswith(b"HTTP/1.1 400")
        assert b'"code":"malformed_request"' in said
