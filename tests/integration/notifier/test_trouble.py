"""Slow clients, a Redis that is away, frozen, killed or another: late is allowed, wrong is not."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from fairline.frames import SUBPROTOCOL
from fairline.store.client import connect as connect_redis
from fairline.store.fence import identity
from tests.support.killed_redis import kill_redis
from tests.support.listeners import Listener, RunningNotifier, a_notifier, token_of
from tests.support.sale import SaleDriver
from tests.support.stack import Running, eventually, servers

HALTED = "recovering"


@pytest.fixture
async def own() -> AsyncIterator[Running]:
    """A Redis that may be broken."""
    async with servers("redis") as running:
        yield running


@pytest.fixture
async def own_redis(own: Running) -> AsyncIterator[Redis]:
    client = connect_redis(own.redis_url, name="test")
    yield client
    await client.aclose()


def small_socket(url: str) -> socket.socket:
    """A socket of a client that reads nothing: small enough that a server's writes soon block."""
    host, _, port = url.removeprefix("ws://").split("/")[0].partition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    sock.connect((host, int(port)))
    sock.setblocking(False)
    return sock


# More than the library keeps of one connection: it stops reading, and goes on once they are looked at.
MESSAGES = 4 * (b"\x81\x8c" + bytes(4) + b'{"type":"x"}')
SLOW = {"tick_ms": 20, "send_buffer_bytes": 4096, "write_buffer_bytes": 1024, "close_timeout_s": 0.3}


async def test_a_client_that_never_reads_is_closed_and_disturbs_nobody(redis: Redis, redis_url: str) -> None:
    sale = await SaleDriver.opened(redis, 100, message="x" * 500)
    stuck_id, other_id = await sale.join("anna", "berta")
    async with a_notifier(redis_url, slow_limit_s=0.5, **SLOW) as notifier:
        url = notifier.at(sale.id, stuck_id)
        socket_ = await connect(
            url,
            sock=small_socket(url),
            subprotocols=[Subprotocol(SUBPROTOCOL), Subprotocol(token_of(sale.id, stuck_id))],
            max_queue=1,
            ping_interval=None,
            compression=None,
            proxy=None,
        )
        socket_.transport.pause_reading()
        async with Listener.to(notifier.at(sale.id, other_id), token_of(sale.id, other_id)) as berta:
            await berta.ticket()
            await eventually(lambda: notifier.count("fairline_frames_skipped_total") > 0)
            seen = len(berta.heard)
            await eventually(lambda: notifier.count("fairline_closed_total", code="1013") == 1)
            await eventually(lambda: notifier.count("fairline_connections") == 1)
            await berta.progress()
            assert len(berta.heard) > seen
        socket_.transport.abort()
        await socket_.wait_closed()
    await sale.remove()


async def test_a_client_that_reads_late_gets_every_result_and_the_newest_progress(redis: Redis, redis_url: str) -> None:
    sale = await SaleDriver.opened(redis, 100, message="x" * 500)
    [ticket_id] = await sale.join("anna")
    async with a_notifier(redis_url, slow_limit_s=60, **SLOW) as notifier:
        url = notifier.at(sale.id, ticket_id)
        socket_ = await connect(
            url,
            sock=small_socket(url),
            subprotocols=[Subprotocol(SUBPROTOCOL), Subprotocol(token_of(sale.id, ticket_id))],
            ping_interval=None,
            compression=None,
            proxy=None,
        )
        anna = Listener(socket_)
        await anna.ticket("WAITING")
        socket_.transport.pause_reading()
        await eventually(lambda: notifier.count("fairline_frames_skipped_total") > 0)
        told = notifier.count("fairline_frames_total", type="ticket")
        lease, _ = await sale.admit()
        await eventually(lambda: notifier.count("fairline_frames_total", type="ticket") == told + 1)
        await sale.reserve(lease, ticket_id)
        await eventually(lambda: notifier.count("fairline_frames_total", type="ticket") == told + 2)
        await sale.patch(message="the newest")
        skipped = notifier.count("fairline_frames_skipped_total")
        await eventually(lambda: notifier.count("fairline_frames_skipped_total") > skipped + 3)
        socket_.transport.resume_reading()
        await anna.progress(lambda frame: frame["message"] == "the newest")
        assert anna.states() == ["WAITING", "ADMITTED", "RESERVED"]
        await socket_.close()
    await sale.remove()


@pytest.mark.parametrize("first", [b"", MESSAGES], ids=["pings", "messages-first"])
async def test_pings_of_a_client_that_never_reads_are_not_answered_without_end(
    redis: Redis, redis_url: str, first: bytes
) -> None:
    sale = await SaleDriver.opened(redis, 100)
    [ticket_id] = await sale.join("anna")
    ping = b"\x89\xfd" + bytes(4) + b"x" * 125
    async with a_notifier(redis_url, **SLOW | {"slow_limit_s": 60, "messages_per_min": 6_000}) as notifier:
        url = notifier.at(sale.id, ticket_id)
        sock = small_socket(url)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        socket_ = await connect(
            url,
            sock=sock,
            subprotocols=[Subprotocol(SUBPROTOCOL), Subprotocol(token_of(sale.id, ticket_id))],
            compression=None,
            proxy=None,
        )
        await Listener(socket_).ticket("WAITING")
        transport = socket_.transport
        transport.pause_reading()
        for _ in range(100):
            transport.write((first + ping * 10) * 10)
            await asyncio.sleep(0)
        # A server that goes on answering takes all of them.
        await eventually(lambda: notifier.count("fairline_frames_skipped_total") > 10)
        assert transport.get_write_buffer_size() > 1_000_000
        transport.resume_reading()
        await eventually(lambda: transport.get_write_buffer_size() == 0)
        await Listener(socket_).progress()
        transport.abort()
        await socket_.wait_closed()
    await sale.remove()


async def test_results_that_nobody_takes_are_bounded(redis: Redis, redis_url: str) -> None:
    sale = await SaleDriver.opened(redis, 100, message="x" * 500)
    [ticket_id] = await sale.join("anna")
    async with a_notifier(redis_url, slow_limit_s=60, mailbox_results=2, **SLOW) as notifier:
        url = notifier.at(sale.id, ticket_id)
        socket_ = await connect(
            url,
            sock=small_socket(url),
            subprotocols=[Subprotocol(SUBPROTOCOL), Subprotocol(token_of(sale.id, ticket_id))],
            ping_interval=None,
            compression=None,
            proxy=None,
        )
        await Listener(socket_).ticket("WAITING")
        socket_.transport.pause_reading()
        await eventually(lambda: notifier.count("fairline_frames_skipped_total") > 0)
        for _ in range(2):
            told = notifier.count("fairline_frames_total", type="ticket")
            await sale.admit()
            await eventually(lambda told=told: notifier.count("fairline_frames_total", type="ticket") > told)  # type: ignore[misc]
            told = notifier.count("fairline_frames_total", type="ticket")
            await sale.end_leases(ticket_id)
            await sale.reap(max_tries=9)
            await eventually(lambda told=told: notifier.count("fairline_frames_total", type="ticket") > told)  # type: ignore[misc]
        await eventually(lambda: notifier.count("fairline_closed_total", code="1013") == 1)
        await eventually(lambda: notifier.count("fairline_connections") == 0)
        socket_.transport.abort()
        await socket_.wait_closed()
    await sale.remove()


async def test_a_killed_subscription_is_made_up_for(sale: SaleDriver, notifier: RunningNotifier, redis: Redis) -> None:
    [ticket_id] = await sale.join("anna")
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        await anna.ticket("WAITING")
        lease = ""
        for step in range(3):
            assert await redis.client_kill_filter(_type="pubsub") >= 1
            if step == 0:
                lease, _ = await sale.admit()
                await anna.ticket("ADMITTED")
            elif step == 1:
                await sale.reserve(lease, ticket_id)
                await anna.ticket("RESERVED")
            else:
                await sale.confirm(ticket_id)
                await anna.ticket("CONFIRMED")


async def test_a_message_that_is_none_of_ours_does_no_harm(
    sale: SaleDriver, notifier: RunningNotifier, redis: Redis
) -> None:
    [ticket_id] = await sale.join("anna")
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        await anna.ticket("WAITING")
        for garbage in (b"", b"\xc1", b"hello", b"\x81\xa1a\x01"):
            await redis.publish(sale.keys.moved, garbage)
        await sale.admit()
        await anna.ticket("ADMITTED")


async def test_d1_a_halted_sale_is_recovering_and_no_ticket_is_told(
    sale: SaleDriver, notifier: RunningNotifier, redis: Redis
) -> None:
    here, late = await sale.join("anna", "berta")
    fence = await redis.hget(sale.keys.meta, "fence")
    async with Listener.to(notifier.at(sale.id, here), token_of(sale.id, here)) as anna:
        await anna.progress(lambda frame: frame["state"] == "open")
        lease, _ = await sale.admit(most=1)
        await anna.ticket("ADMITTED")
        await redis.hset(sale.keys.meta, "fence", "0" * 40)
        halted = await anna.progress(lambda frame: frame["state"] == HALTED)
        assert halted["items"] == {}
        assert halted["rate"] is None
        assert halted["tail"] == 2
        async with Listener.to(notifier.at(sale.id, late), token_of(sale.id, late)) as berta:
            await berta.progress()
            await berta.progress()
            assert {frame["state"] for frame in berta.heard} == {HALTED}
            await redis.hset(sale.keys.meta, "fence", fence)
            await berta.ticket("WAITING")
            await berta.progress(lambda frame: frame["state"] == "open")
        await anna.progress(lambda frame: frame["state"] == "open")
        assert await sale.reserve(lease, here) == ["RESERVED"]
        await anna.ticket("RESERVED")
        assert anna.states() == ["WAITING", "ADMITTED", "RESERVED"]


async def test_what_a_halt_has_changed_is_read_again(sale: SaleDriver, notifier: RunningNotifier, redis: Redis) -> None:
    # Recovery may put a ticket back to an older state without a script of ours that says so.
    [ticket_id] = await sale.join("anna")
    fence = await redis.hget(sale.keys.meta, "fence")
    waiting = await redis.hget(sale.keys.tickets, ticket_id)
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        await anna.ticket("WAITING")
        await sale.admit()
        await anna.ticket("ADMITTED")
        await redis.hset(sale.keys.meta, "fence", "0" * 40)
        await anna.progress(lambda frame: frame["state"] == HALTED)
        await redis.hset(sale.keys.tickets, ticket_id, waiting)
        await redis.hset(sale.keys.meta, "fence", fence)
        await anna.ticket("WAITING")


async def test_a_ticket_of_a_sale_that_redis_has_lost_is_not_called_unknown(
    redis: Redis, notifier: RunningNotifier
) -> None:
    sale = await SaleDriver.opened(redis, 5)
    [ticket_id] = await sale.join("anna")
    await sale.remove()
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        for _ in range(3):
            await anna.progress()
        assert {(frame["type"], frame["state"]) for frame in anna.heard} == {("progress", HALTED)}


async def test_a_frozen_redis_is_told_every_tick_and_nothing_is_lost(own: Running, own_redis: Redis) -> None:
    sale = await SaleDriver.opened(own_redis, 5)
    here, late = await sale.join("anna", "berta")
    async with (
        a_notifier(own.redis_url, redis_timeout_s=0.5, tick_ms=50, patience_ms=300) as notifier,
        Listener.to(notifier.at(sale.id, here), token_of(sale.id, here)) as anna,
    ):
        await anna.progress(lambda frame: frame["state"] == "open")
        os.kill(own.pid("redis"), signal.SIGSTOP)
        try:
            for _ in range(30):  # longer than one time limit of Redis lasts
                await anna.progress(lambda frame: frame["state"] == HALTED)
            async with Listener.to(notifier.at(sale.id, late), token_of(sale.id, late)) as berta:
                await berta.progress()
                assert {frame["state"] for frame in berta.heard} == {HALTED}
                assert berta.states() == []
                os.kill(own.pid("redis"), signal.SIGCONT)
                await berta.ticket("WAITING")
        finally:
            os.kill(own.pid("redis"), signal.SIGCONT)
        await anna.progress(lambda frame: frame["state"] == "open")
        await sale.admit()
        await anna.ticket("ADMITTED")
        assert anna.states() == ["WAITING", "ADMITTED"]


async def test_d1_after_a_kill_of_redis_the_sale_is_recovering_until_it_is_fenced_anew(
    own: Running, own_redis: Redis
) -> None:
    sale = await SaleDriver.opened(own_redis, 5)
    [ticket_id] = await sale.join("anna")
    was = await identity(own.redis_url)
    async with (
        a_notifier(own.redis_url) as notifier,
        Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna,
    ):
        await anna.ticket("WAITING")
        await anna.progress(lambda frame: frame["state"] == "open")
        await own_redis.connection_pool.disconnect()
        await kill_redis(own)
        for _ in range(10):
            await anna.progress(lambda frame: frame["state"] == HALTED)

        async def fenced_anew() -> bool:
            try:
                return await sale.sales.adopt(was) == [sale.id]
            except Exception:  # noqa: BLE001 - it is only just coming up
                return False

        async with asyncio.timeout(20):
            while not await fenced_anew():
                await anna.progress(lambda frame: frame["state"] == HALTED)
        await anna.progress(lambda frame: frame["state"] == "open")
        await sale.admit()
        await anna.ticket("ADMITTED")
        assert anna.states() == ["WAITING", "ADMITTED"]
