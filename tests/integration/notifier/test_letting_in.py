"""Who may listen, for how long, and what happens to the others."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response
from websockets.typing import Origin, Subprotocol

from fairline.frames import SUBPROTOCOL, CloseCode
from tests.support.listeners import WAIT_S, Listener, RunningNotifier, a_notifier, token_of
from tests.support.sale import SaleDriver
from tests.support.stack import eventually

OTHER_KEYS = "first:fedcba9876543210fedcba9876543210"
UNKNOWN_KEYS = "second:0123456789abcdef0123456789abcdef"


@pytest.fixture
async def ticket_id(sale: SaleDriver) -> str:
    [made] = await sale.join("anna")
    return made


@pytest.fixture
async def hasty(redis_url: str) -> AsyncIterator[RunningNotifier]:
    """A notifier that waits for nobody."""
    async with a_notifier(redis_url, hello_timeout_s=0.2, messages_per_min=5) as running:
        yield running


async def refused(url: str, **options: object) -> Response:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, proxy=None, **options):  # type: ignore[arg-type]  # whatever the test wants
            pass
    return caught.value.response


async def test_a_token_may_come_in_the_first_message(
    sale: SaleDriver, notifier: RunningNotifier, ticket_id: str
) -> None:
    async with Listener.to(notifier.at(sale.id, ticket_id), None) as anna:
        await anna.socket.send(json.dumps({"type": "hello", "token": token_of(sale.id, ticket_id), "extra": 1}))
        await anna.ticket("WAITING")
        assert anna.socket.subprotocol is None


async def test_a_token_may_come_in_the_first_message_with_our_subprotocol(
    sale: SaleDriver, notifier: RunningNotifier, ticket_id: str
) -> None:
    async with connect(notifier.at(sale.id, ticket_id), subprotocols=[Subprotocol(SUBPROTOCOL)], proxy=None) as socket:
        await socket.send('{"type": "from a later version"}')
        await socket.send(json.dumps({"type": "hello", "token": token_of(sale.id, ticket_id)}))
        await Listener(socket).ticket("WAITING")


@pytest.mark.parametrize(
    "keys", [OTHER_KEYS, UNKNOWN_KEYS], ids=["signed with another secret", "signed with an unknown key"]
)
async def test_a_forged_token_opens_nothing(
    sale: SaleDriver, notifier: RunningNotifier, ticket_id: str, keys: str
) -> None:
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id, keys=keys)) as nobody:
        assert await nobody.closed() == CloseCode.BAD_TOKEN
        assert nobody.heard == []


async def test_a_token_opens_no_other_ticket_and_no_other_sale(
    sale: SaleDriver, notifier: RunningNotifier, ticket_id: str
) -> None:
    [other] = await sale.join("berta")
    for token in (token_of(sale.id, other), token_of("another-sale", ticket_id)):
        async with Listener.to(notifier.at(sale.id, ticket_id), token) as nobody:
            assert await nobody.closed() == CloseCode.BAD_TOKEN
            assert nobody.heard == []


@pytest.mark.parametrize(
    "hello",
    [
        '{"type": "hello"}',
        '{"type": "hello", "token": null}',
        '{"type": "hello", "token": ""}',
        '{"type": "hello", "token": "a.b.c"}',
    ],
)
async def test_a_hello_without_a_good_token_is_a_bad_token(
    sale: SaleDriver, notifier: RunningNotifier, ticket_id: str, hello: str
) -> None:
    async with Listener.to(notifier.at(sale.id, ticket_id), None) as nobody:
        await nobody.socket.send(hello)
        assert await nobody.closed() == CloseCode.BAD_TOKEN


@pytest.mark.parametrize(
    "said",
    [
        "",
        "hello",
        "[1, 2]",
        "null",
        '{"token": "x"}',
        '{"type": 7}',
        '{"type":"x","a":' + "[" * 4000,
        b"\x00\xff",
        b"{}",
    ],
    ids=["empty", "no json", "a list", "null", "no type", "type is a number", "deep", "binary", "binary json"],
)
async def test_what_is_no_frame_closes_the_connection(
    sale: SaleDriver, notifier: RunningNotifier, ticket_id: str, said: str | bytes
) -> None:
    async with Listener.to(notifier.at(sale.id, ticket_id), None) as nobody:
        await nobody.socket.send(said)
        assert await nobody.closed() == CloseCode.GARBAGE
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        await anna.ticket()
        await anna.socket.send(said)
        assert await anna.closed() == CloseCode.GARBAGE


async def test_a_huge_message_closes_the_connection_unread(
    sale: SaleDriver, notifier: RunningNotifier, ticket_id: str
) -> None:
    async with Listener.to(notifier.at(sale.id, ticket_id), None) as nobody:
        await nobody.socket.send("x" * 5000)
        assert await nobody.closed() == 1009


async def test_a_silent_client_is_closed_in_time(sale: SaleDriver, hasty: RunningNotifier, ticket_id: str) -> None:
    async with Listener.to(hasty.at(sale.id, ticket_id), None) as nobody:
        assert await nobody.closed() == CloseCode.BAD_TOKEN
        assert nobody.heard == []


async def test_types_of_a_later_version_are_ignored_but_not_without_end(
    sale: SaleDriver, hasty: RunningNotifier, ticket_id: str
) -> None:
    async with Listener.to(hasty.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        await anna.ticket()
        for _ in range(5):
            await anna.socket.send('{"type": "from a later version", "x": 1}')
        await anna.progress()
        await anna.socket.send('{"type": "one too many"}')
        assert await anna.closed() == CloseCode.GARBAGE


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/sales/x/tickets",
        "/sales/X/tickets/00000000-0000-4000-8000-000000000000",
        "/sales/x/tickets/1",
        "/sales/x/tickets/00000000-0000-4000-8000-00000000000G",
        "/sales/x/tickets/00000000-0000-4000-8000-000000000000/more",
        "/sales/" + "x" * 65 + "/tickets/00000000-0000-4000-8000-000000000000",
    ],
)
async def test_any_other_path_is_not_found(notifier: RunningNotifier, path: str) -> None:
    answer = await refused(notifier.url + path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert json.loads(answer.body)["code"] == "not_found"


async def test_plain_http_is_told_to_upgrade(sale: SaleDriver, notifier: RunningNotifier, ticket_id: str) -> None:
    host, _, port = notifier.url.removeprefix("ws://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = notifier.at(sale.id, ticket_id).removeprefix(notifier.url)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 426 ")
    assert b"Upgrade: websocket" in head
    assert b"Server:" not in head
    assert json.loads(body)["code"] == "upgrade_required"


async def test_a_foreign_origin_is_refused_and_none_is_not(sale: SaleDriver, redis_url: str, ticket_id: str) -> None:
    async with a_notifier(redis_url, origins="https://shop.example, https://other.example") as notifier:
        url, token = notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)
        for origin in (Origin("https://shop.example"), Origin("https://other.example"), None):
            async with Listener.to(url, token, origin=origin) as anna:
                await anna.ticket()
        assert (await refused(url, origin=Origin("https://evil.example"))).status_code == 403


async def test_one_connection_too_many_is_refused_before_the_upgrade(
    sale: SaleDriver, redis_url: str, ticket_id: str
) -> None:
    async with a_notifier(redis_url, max_connections=2) as notifier:
        url, token = notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)
        async with Listener.to(url, token) as one, Listener.to(url, token) as two:
            await one.ticket()
            await two.ticket()
            answer = await refused(url)
            assert answer.status_code == 503
            assert 1 <= int(answer.headers["Retry-After"]) <= 5
            assert json.loads(answer.body)["code"] == "overloaded"
        async with Listener.to(url, token) as one:
            await one.ticket()


async def test_a_connection_that_has_lived_long_enough_is_closed(
    sale: SaleDriver, redis_url: str, ticket_id: str
) -> None:
    async with a_notifier(redis_url, connection_life_s=0.2) as notifier:
        async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
            assert await anna.closed() == CloseCode.TOO_OLD
        await eventually(lambda: notifier.count("fairline_connections") == 0)
        assert notifier.count("fairline_closed_total", code="4408") == 1


async def test_stopping_says_when_to_come_back_and_closes(sale: SaleDriver, redis_url: str, ticket_id: str) -> None:
    async with a_notifier(redis_url, reconnect_spread_s=3) as notifier, contextlib.AsyncExitStack() as stack:
        url, token = notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)
        listeners = [await stack.enter_async_context(Listener.to(url, token)) for _ in range(12)]
        for each in listeners:
            await each.ticket()
        notifier.stopping.set()
        byes = [await each.hear(lambda frame: frame["type"] == "bye") for each in listeners]
        assert all(0 <= bye["retry_after_ms"] <= 12 for bye in byes), "so few need not wait"
        assert len({bye["retry_after_ms"] for bye in byes}) > 1
        assert [await each.closed() for each in listeners] == [CloseCode.GOING_AWAY] * 12
        async with asyncio.timeout(WAIT_S):
            await notifier.task
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await connect(url, proxy=None)


async def test_a_client_that_ignores_the_close_does_not_hold_up_the_stop(
    sale: SaleDriver, redis_url: str, ticket_id: str
) -> None:
    async with a_notifier(redis_url, drain_s=0.5, close_timeout_s=60) as notifier:
        host, _, port = notifier.url.removeprefix("ws://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        path = notifier.at(sale.id, ticket_id).removeprefix(notifier.url)
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Protocol: fairline.v1, {token_of(sale.id, ticket_id)}\r\n\r\n".encode()
        )
        await reader.readuntil(b'"progress"')
        notifier.stopping.set()
        async with asyncio.timeout(WAIT_S):
            await notifier.task
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_no_token_is_ever_logged(
    sale: SaleDriver,
    redis_url: str,
    ticket_id: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    good, bad = token_of(sale.id, ticket_id), token_of(sale.id, ticket_id, keys=OTHER_KEYS)
    with caplog.at_level(logging.DEBUG):
        async with a_notifier(redis_url) as notifier:
            for token in (good, bad):
                with contextlib.suppress(ConnectionClosed, AssertionError):
                    async with Listener.to(notifier.at(sale.id, ticket_id), token) as anna:
                        await anna.progress()
                async with Listener.to(notifier.at(sale.id, ticket_id), None) as anna:
                    await anna.socket.send(json.dumps({"type": "hello", "token": token}))
                    with contextlib.suppress(AssertionError):
                        await anna.progress()
    # The client of this test is the library too, and says everything at this level.
    ours = [record.getMessage() for record in caplog.records if record.name != "websockets.client"]
    out, err = capfd.readouterr()
    written = "\n".join([*ours, out, err])
    assert "listening" in written
    for token in (good, bad):
        assert token.split(".")[2] not in written
