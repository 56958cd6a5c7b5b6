"""The proxy of the breaker: every trouble that it can make really happens, and ends."""

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest

from fairline.runtime.services import cancelled
from loadtest.chaos.kafka_wire import PRODUCE, Frames, PublishAnswers, client_id
from loadtest.chaos.proxy import CHUNK, DOWN, UP, Proxy
from tests.support.stack import eventually

WAIT_S = 20.0
A_MOMENT_S = 0.2


class Echo:
    """A server that answers each line with itself, and keeps what it heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(line)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


class Client:
    there: ClassVar[list["Client"]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.there.append(self)

    @classmethod
    async def to(cls, port: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def say(self, text: str) -> None:
        self.writer.write(f"{text}\n".encode())

    async def hear(self) -> str:
        """A line; nothing when the connection is over."""
        async with asyncio.timeout(WAIT_S):
            try:
                return (await self.reader.readline()).decode().strip()
            except ConnectionError:
                return ""

    async def hears_nothing(self) -> bool:
        task = asyncio.ensure_future(self.reader.readexactly(1))
        done, _ = await asyncio.wait({task}, timeout=A_MOMENT_S)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return not done

    async def asks(self, text: str) -> str:
        self.say(text)
        return await self.hear()


@pytest.fixture(autouse=True)
async def no_client_left() -> AsyncIterator[None]:
    yield
    for client in Client.there:
        client.writer.transport.abort()
    Client.there.clear()
    await asyncio.sleep(0)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@asynccontextmanager
async def through(proxy: Proxy) -> AsyncIterator[Client]:
    port = await proxy.start()
    client = await Client.to(port)
    try:
        yield client
    finally:
        await proxy.stop()


async def test_everything_passes_both_ways_while_there_is_no_trouble(echo: Echo) -> None:
    async with through(Proxy(echo.port, name="echo")) as client:
        long = "x" * (3 * CHUNK)
        assert await client.asks(long) == long
        assert await client.asks("again") == "again"


async def test_the_last_words_of_a_server_that_hangs_up_arrive() -> None:
    async def tells_and_goes(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * (5 * CHUNK) + b"\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(tells_and_goes, "127.0.0.1", 0)
    async with through(Proxy(server.sockets[0].getsockname()[1], name="teller")) as client:
        async with asyncio.timeout(WAIT_S):
            assert len(await client.reader.read(-1)) == 5 * CHUNK + 1
    server.close()


async def test_a_cut_connection_is_reset_and_the_next_one_is_fine(echo: Echo) -> None:
    proxy = Proxy(echo.port, name="echo")
    port = await proxy.start()
    client = await Client.to(port)
    assert await client.asks("before") == "before"
    assert proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        async with asyncio.timeout(WAIT_S):
            await client.reader.readexactly(1)
    assert await (await Client.to(port)).asks("after") == "after"
    await proxy.stop()


async def test_a_refused_wire_takes_no_new_connection_until_it_is_healed(echo: Echo) -> None:
    proxy = Proxy(echo.port, name="echo")
    port = await proxy.start()
    proxy.wire().refused = True
    assert await (await Client.to(port)).asks("anybody?") == ""
    assert echo.heard == []
    proxy.heal()
    assert await (await Client.to(port)).asks("anybody?") == "anybody?"
    await proxy.stop()


async def test_a_slow_wire_takes_its_time_in_each_direction(echo: Echo) -> None:
    proxy = Proxy(echo.port, name="echo")
    async with through(proxy) as client:
        proxy.wire().slow_s = 0.3
        began = time.monotonic()
        assert await client.asks("slowly") == "slowly"
        assert time.monotonic() - began >= 0.6
        proxy.heal()
        assert proxy.wire().slow_s == 0


async def test_a_hole_towards_the_server_lets_it_hear_nothing_until_it_is_healed(echo: Echo) -> None:
    proxy = Proxy(echo.port, name="echo")
    async with through(proxy) as client:
        assert await client.asks("one") == "one"
        proxy.wire().hole(UP)
        client.say("two")
        assert await client.hears_nothing()
        assert echo.heard == [b"one\n"]
        proxy.heal()
        assert await client.hear() == "two"


async def test_a_hole_towards_the_client_lets_the_server_work_and_nobody_know(echo: Echo) -> None:
    proxy = Proxy(echo.port, name="echo")
    async with through(proxy) as client:
        proxy.wire().hole(DOWN)
        client.say("two")
        await eventually(lambda: echo.heard == [b"two\n"])
        assert await client.hears_nothing()
        proxy.heal()
        assert await client.hear() == "two"


async def test_a_hole_keeps_no_more_than_its_buffers(echo: Echo) -> None:
    proxy = Proxy(echo.port, name="echo")
    async with through(proxy) as client:
        proxy.wire().hole(UP)
        client.writer.transport.set_write_buffer_limits(high=0)
        sent, held_up = 0, False
        while not held_up:
            client.writer.write(b"x" * 1_000_000)
            sent += 1_000_000
            assert sent < 50_000_000
            waiting = asyncio.ensure_future(client.writer.drain())
            _, late = await asyncio.wait({waiting}, timeout=1)
            held_up = bool(late)
            await cancelled(*late)


async def test_a_lost_answer_means_that_it_was_done_and_the_connection_is_gone(echo: Echo) -> None:
    proxy = Proxy(echo.port, name="echo")
    async with through(proxy) as client:
        proxy.wire().to_lose = 1
        assert await client.asks("take this") == ""
        assert echo.heard == [b"take this\n"]
        assert proxy.wire().lost == 1
        assert proxy.wire().to_lose == 0


async def test_trouble_of_one_client_is_none_of_another_s(echo: Echo) -> None:
    proxy = Proxy(echo.port, name="echo", who=lambda first: first.decode().split()[0])
    port = await proxy.start()
    anna, ben = await Client.to(port), await Client.to(port)
    assert await anna.asks("anna 1") == "anna 1"
    assert await ben.asks("ben 1") == "ben 1"
    proxy.wire("anna").hole(DOWN)
    anna.say("anna 2")
    assert await anna.hears_nothing()
    assert await ben.asks("ben 2") == "ben 2"
    assert proxy.cut("ben") == 1
    assert await ben.hear() == ""
    proxy.heal()
    assert await anna.hear() == "anna 2"
    assert proxy.connections == {"anna": 1, "ben": 1}
    await proxy.stop()


async def test_a_client_of_a_server_that_is_away_finds_its_connection_gone() -> None:
    proxy = Proxy(1, name="nowhere")
    async with through(proxy) as client:
        assert await client.asks("anybody?") == ""


async def test_a_proxy_that_is_stopped_leaves_no_connection_and_may_be_stopped_again(echo: Echo) -> None:
    proxy = Proxy(echo.port, name="echo")
    client = await Client.to(await proxy.start())
    assert await client.asks("here") == "here"
    await proxy.stop()
    await proxy.stop()
    assert await client.hear() == ""


def request(api: int, correlation: int, client: str = "admission-2", body: bytes = b"") -> bytes:
    rest = struct.pack(">hhih", api, 9, correlation, len(client)) + client.encode() + body
    return struct.pack(">i", len(rest)) + rest


def answer(correlation: int, body: bytes = b"....") -> bytes:
    return struct.pack(">ii", 4 + len(body), correlation) + body


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_frames_are_found_however_the_stream_is_cut(size: int) -> None:
    bodies = [b"abcd", b"efgh" * 100, b"ijkl-"]
    stream = b"".join(struct.pack(">i", len(body)) + body for body in bodies)
    frames = Frames(4)
    heads = [head for at in range(0, len(stream), size) for head in frames.feed(stream[at : at + size])]
    assert heads == [b"abcd", b"efgh", b"ijkl"]


def test_the_answer_to_a_publish_is_told_from_others() -> None:
    sees = PublishAnswers()
    sees.up(request(3, 1) + request(PRODUCE, 2, body=b"x" * 500) + request(1, 3))
    assert not sees.down(answer(1))
    assert not sees.down(answer(3))
    assert sees.down(answer(2))
    assert not sees.down(answer(2))


def test_a_client_of_kafka_is_known_by_its_first_request() -> None:
    assert client_id(request(18, 1, "order_service-2")) == "order_service-2"
    assert client_id(b"\x00\x00") == ""
    assert client_id(struct.pack(">ihhih", 10, 18, 3, 1, -1)) == ""
