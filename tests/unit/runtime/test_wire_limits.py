"""A connection that never finishes a request's head, or takes no answer, costs a bounded time, memory and place."""

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from fairline.runtime.health import HttpServer
from fairline.runtime.wire_limits import MOST_PIPELINED, LimitedProtocol
from tests.support.stack import eventually

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


class Resting(LimitedProtocol):
    """Closes a connection soon after its last answer."""

    head_s = 60.0

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.timeout_keep_alive = 1


class Shut:
    """A door before which every whole request is one too many."""

    def refusal(self, data: bytes) -> bytes | None:
        return b"HTTP/1.1 503 Full\r\ncontent-length: 5\r\n\r\nhello" if data.endswith(b"\r\n\r\n") else None

    def started(self, _scope: Any) -> None:
        """There is room."""


class Refusing(LimitedProtocol):
    head_s = 0.3
    door = Shut()


class Answering:
    """Answers when it may, with as much as it is told to, and counts what is under way."""

    def __init__(self, body: bytes = b"hello") -> None:
        self.body = body
        self.go = asyncio.Event()
        self.under_way = 0

    async def __call__(self, _scope: dict[str, Any], _receive: Any, send: Any) -> None:
        self.under_way += 1
        try:
            await self.go.wait()
            length = (b"content-length", b"%d" % len(self.body))
            await send({"type": "http.response.start", "status": 200, "headers": [length]})
            await send({"type": "http.response.body", "body": self.body})
        finally:
            self.under_way -= 1


@asynccontextmanager
async def serving(protocol: type[LimitedProtocol], app: Any = hello) -> AsyncIterator[int]:
    server = HttpServer(app, host="127.0.0.1", port=0, drain_s=1, protocol=protocol)
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


@pytest.mark.parametrize("trailer", [b"x: y\r\n" * 100, b"x" * 600], ids=["many", "one"])
async def test_trailers_without_end_are_refused(trailer: bytes) -> None:
    async def read_all(_scope: dict[str, Any], receive: Any, _send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    async with serving(Loose, read_all) as port, connected(port) as (reader, writer):
        writer.write(REQUEST + b"transfer-encoding: chunked\r\n\r\n" + b"5\r\nhello\r\n0\r\nx: ")
        with suppress(ConnectionError):  # it was closed with bytes of ours unread
            for _ in range(100):
                writer.write(trailer)
                await writer.drain()
                await asyncio.sleep(0.001)
            said = await answer(reader)
            assert said.startswith(b"HTTP/1.1 431")
            assert b'"code":"headers_too_large"' in said


async def test_a_body_in_small_pieces_is_no_head_that_is_too_large() -> None:
    async def size(_scope: dict[str, Any], receive: Any, send: Any) -> None:
        read, more = 0, True
        while more:
            message = await receive()
            read, more = read + len(message["body"]), message["more_body"]
        said = b"%d" % read
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
        await send({"type": "http.response.body", "body": said})

    async with serving(Loose, size) as port, connected(port) as (reader, writer):
        for _ in range(2):
            writer.write(REQUEST + b"transfer-encoding: chunked\r\n\r\n")
            for _ in range(1000):
                writer.write(b"5\r\nhello\r\n")
                await writer.drain()
            writer.write(b"0\r\nx: y\r\n\r\n")
            async with asyncio.timeout(20):
                assert (await reader.readuntil(b"5000")).startswith(b"HTTP/1.1 200")


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


async def test_a_connection_that_the_client_broke_off_is_waited_for_no_more() -> None:
    made: list[LimitedProtocol] = []

    class Kept(Loose):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            made.append(self)

    async with serving(Kept) as port:
        async with connected(port) as (reader, writer):
            writer.write(REQUEST + b"\r\n")
            async with asyncio.timeout(20):
                await reader.readuntil(b"hello")
            assert made[0].timeout_keep_alive_task is not None
            broken_off = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, broken_off)
        await eventually(lambda: not made[0].connections)
        assert made[0].timeout_keep_alive_task is None


async def test_what_is_no_http_is_told_so_in_a_problem() -> None:
    async with serving(Loose) as port, connected(port) as (reader, writer):
        writer.write(b"NONSENSE\r\n\r\n")
        said = await answer(reader)
        assert said.startswith(b"HTTP/1.1 400")
        assert b'"code":"malformed_request"' in said


async def test_an_address_that_is_none_is_no_http_either() -> None:
    async with serving(Loose) as port, connected(port) as (reader, writer):
        writer.write(b"GET http://here HTTP/1.1\r\nhost: here\r\n\r\n")
        assert (await answer(reader)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(("more", "sent"), [(b"", b"\r\n"), (b"content-length: 1000\r\n", b"a part of a body")])
async def test_what_begins_no_request_keeps_no_connection(more: bytes, sent: bytes) -> None:
    async with serving(Resting) as port, connected(port) as (reader, writer):
        writer.write(REQUEST + more + b"\r\n")
        async with asyncio.timeout(20):
            await reader.readuntil(b"hello")
        writer.write(sent)
        assert await answer(reader) == b"", "closed as if nothing had come"


async def test_a_connection_that_the_door_refused_has_its_time_for_the_next_head() -> None:
    async with serving(Refusing) as port, connected(port) as (reader, writer):
        writer.write(REQUEST + b"\r\n")
        async with asyncio.timeout(20):
            await reader.readuntil(b"hello")
        writer.write(REQUEST)
        assert (await answer(reader)).startswith(b"HTTP/1.1 408")


async def test_the_door_answers_nobody_whose_earlier_request_is_not_answered_yet() -> None:
    class Filling(Shut):
        """The first request is let in."""

        refuses = False

        def started(self, _scope: Any) -> None:
            self.refuses = True

        def refusal(self, data: bytes) -> bytes | None:
            return super().refusal(data) if self.refuses else None

    class Full(Loose):
        door = Filling()

    app = Answering()
    async with serving(Full, app) as port, connected(port) as (reader, writer):
        writer.write(REQUEST + b"\r\n")
        await eventually(lambda: app.under_way == 1)
        writer.write(REQUEST + b"\r\n")
        async with connected(port) as (other, asking):
            asking.write(REQUEST + b"\r\n")
            assert (await other.readuntil(b"hello")).startswith(b"HTTP/1.1 503"), "by now the second one has come too"
        app.go.set()
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200"), "the answer of its first request"


async def test_the_bytes_of_whole_requests_do_not_count_as_those_of_the_next_head() -> None:
    requests = MOST_PIPELINED // 2
    padded = REQUEST + b"x: " + b"y" * 100 + b"\r\n\r\n"
    assert requests * len(padded) > Loose.max_head_bytes
    async with serving(Loose) as port, connected(port) as (reader, writer):
        writer.write(padded * requests + REQUEST)
        async with asyncio.timeout(20):
            for _ in range(requests):
                assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")


async def test_more_requests_than_may_wait_on_a_connection_end_it() -> None:
    app = Answering()
    async with serving(Loose, app) as port, connected(port) as (reader, writer):
        writer.write((REQUEST + b"\r\n") * (MOST_PIPELINED + 2))
        assert await answer(reader) == b""
        app.go.set()


MALFORMED = REQUEST.replace(b"GET", b"POST") + b"transfer-encoding: chunked\r\n\r\nNONSENSE\r\n"


@pytest.mark.parametrize("then", [b"NONSENSE\r\n\r\n", REQUEST, REQUEST + b"x: " + b"y" * 5000, MALFORMED])
async def test_no_refusal_is_told_in_the_place_of_an_earlier_answer(then: bytes) -> None:
    app = Answering()
    async with serving(Tight, app) as port, connected(port) as (reader, writer):
        writer.write(REQUEST + b"\r\n")
        await eventually(lambda: app.under_way == 1)
        writer.write(then)
        assert await answer(reader) == b"", "the client must not take it for what became of its first request"
        app.go.set()


async def test_a_body_that_is_malformed_is_told_so() -> None:
    app = Answering()
    async with serving(Loose, app) as port, connected(port) as (reader, writer):
        writer.write(MALFORMED)
        assert (await answer(reader)).startswith(b"HTTP/1.1 400")
        app.go.set()


def impatient(*, answer_s: float) -> tuple[type[LimitedProtocol], set[Any]]:
    """A protocol that gives so much time to take an answer, and its connections of now."""
    connections: set[Any] = set()

    class Impatient(Loose):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            self.answer_s = answer_s
            connections.add(self)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connections.discard(self)

    return Impatient, connections


@pytest.mark.parametrize("last", [b"", b"connection: close\r\n"])
async def test_a_client_that_takes_no_answer_keeps_neither_a_place_nor_a_connection(last: bytes) -> None:
    protocol, connections = impatient(answer_s=0.3)
    app = Answering(b"x" * 10_000_000)
    app.go.set()
    async with serving(protocol, app) as port:
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(REQUEST + last + b"\r\n")
            if not last:
                deaf.sendall(REQUEST + b"\r\n")  # its answer waits until the first is taken
            await eventually(lambda: bool(connections))
            await eventually(lambda: not connections and not app.under_way)


async def test_a_client_that_takes_a_part_of_its_last_answer_has_no_more_time_for_the_rest() -> None:
    protocol, connections = impatient(answer_s=3)
    app = Answering(b"x" * 10_000_000)
    app.go.set()
    async with serving(protocol, app) as port:
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(REQUEST + b"connection: close\r\n\r\n")
            await eventually(lambda: any(one.transport.is_closing() for one in connections))
            for one in connections:
                one.resume_writing()  # as when it has taken so much that there is room again
            await eventually(lambda: not connections)


async def test_a_client_that_has_caught_up_is_given_its_time_anew() -> None:
    protocol, connections = impatient(answer_s=60)
    async with serving(protocol) as port, connected(port):
        await eventually(lambda: bool(connections))
        [one] = connections
        one.pause_writing()
        first = one._taking
        one.resume_writing()
        assert first.cancelled(), "or it would be cut off in a later answer"
        one.pause_writing()
        assert one._taking is not first


async def test_a_client_that_takes_its_answer_late_has_all_of_it() -> None:
    app = Answering(b"x" * 10_000_000)
    async with serving(Loose, app) as port, connected(port) as (reader, writer):
        writer.write(REQUEST + b"connection: close\r\n\r\n")
        await eventually(lambda: app.under_way == 1)
        app.go.set()
        await eventually(lambda: app.under_way == 0)
        assert (await answer(reader)).endswith(app.body)
