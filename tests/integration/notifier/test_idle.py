"""Clients that are there and do nothing, or nothing of use: each ends after its time, and there are never too many."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from fairline.frames import CloseCode
from notifier import server
from tests.support.listeners import WAIT_S, Listener, RunningNotifier, a_notifier, token_of
from tests.support.sale import SaleDriver
from tests.support.stack import eventually

UNKNOWN_TYPE = '{"type": "from a later version"}'


@pytest.fixture
async def ticket_id(sale: SaleDriver) -> str:
    [made] = await sale.join("anna")
    return made


@asynccontextmanager
async def raw(notifier: RunningNotifier) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A TCP connection that says nothing by itself."""
    at = urlsplit(notifier.url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def cut_off(reader: asyncio.StreamReader) -> None:
    """Wait for the server to end this connection."""
    async with asyncio.timeout(WAIT_S):
        with contextlib.suppress(ConnectionError):
            await reader.read()


async def test_whoever_never_asks_for_the_upgrade_is_cut_off(redis_url: str) -> None:
    async with a_notifier(redis_url, open_timeout_s=0.2) as notifier, raw(notifier) as (reader, _):
        await cut_off(reader)


async def test_whoever_answers_no_ping_is_cut_off(sale: SaleDriver, redis_url: str, ticket_id: str) -> None:
    async with (
        a_notifier(redis_url, ping_interval_s=0.2, ping_timeout_s=0.2, close_timeout_s=0.2) as notifier,
        raw(notifier) as (reader, writer),
    ):
        at = urlsplit(notifier.at(sale.id, ticket_id))
        writer.write(
            f"GET {at.path} HTTP/1.1\r\nHost: {at.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Protocol: fairline.v1, {token_of(sale.id, ticket_id)}\r\n\r\n".encode()
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 101 ")
        await cut_off(reader)


async def test_more_than_can_be_told_that_there_are_too_many_are_cut_off(
    sale: SaleDriver, redis_url: str, ticket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "FILES_BESIDE", 4)
    async with a_notifier(redis_url, max_connections=1, open_timeout_s=60) as notifier:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(raw(notifier))
            reader, _ = await stack.enter_async_context(raw(notifier))
            await cut_off(reader)

        async def served() -> bool:
            with contextlib.suppress(Exception):  # those before may not be gone yet
                async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
                    await anna.ticket()
                    return True
            return False

        await eventually(served)


async def test_what_comes_before_the_token_counts_too(sale: SaleDriver, redis_url: str, ticket_id: str) -> None:
    async with (
        a_notifier(redis_url, messages_per_min=5, hello_timeout_s=60) as notifier,
        Listener.to(notifier.at(sale.id, ticket_id), None) as nobody,
    ):
        for _ in range(6):
            await nobody.socket.send(UNKNOWN_TYPE)
        assert await nobody.closed() == CloseCode.GARBAGE


async def test_the_messages_of_one_minute_are_not_held_against_the_next(
    sale: SaleDriver, redis_url: str, ticket_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MINUTE_S", 0.0)  # each message is in a minute of its own
    async with (
        a_notifier(redis_url, messages_per_min=1) as notifier,
        Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna,
    ):
        for _ in range(5):
            await anna.socket.send(UNKNOWN_TYPE)
        await (await anna.socket.ping())  # all of them were read
        await anna.progress()
        await anna.progress()
