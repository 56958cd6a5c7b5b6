"""``python -m notifier``: health, a clean stop, wrong settings."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fairline.frames import CloseCode
from tests.support.listeners import KEYS, Listener, token_of
from tests.support.sale import SaleDriver
from tests.support.stack import Running, servers


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@asynccontextmanager
async def a_process(**environ: str) -> AsyncIterator[asyncio.subprocess.Process]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FAIRLINE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "notifier", env=env | environ, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def fetched(url: str) -> tuple[int, bytes]:
    def fetch() -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own address
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return await asyncio.to_thread(fetch)


async def test_a_process_is_ready_serves_and_stops_cleanly(sale: SaleDriver, redis_url: str) -> None:
    [ticket_id] = await sale.join("anna")
    public, internal = free_port(), free_port()
    async with a_process(
        FAIRLINE_REDIS_URL=redis_url,
        FAIRLINE_TOKEN_KEYS=KEYS,
        FAIRLINE_PORT=str(public),
        FAIRLINE_INTERNAL_PORT=str(internal),
        FAIRLINE_LOG_LEVEL="debug",
    ) as process:
        at = f"http://127.0.0.1:{internal}"
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    if (await fetched(f"{at}/readyz"))[0] == 200:
                        break
        token = token_of(sale.id, ticket_id)
        async with Listener.to(f"ws://127.0.0.1:{public}/sales/{sale.id}/tickets/{ticket_id}", token) as anna:
            await anna.ticket("WAITING")
            await anna.progress()
            assert (await fetched(f"{at}/livez"))[0] == 200
            assert b"fairline_connections 1.0" in (await fetched(f"{at}/metrics"))[1]
            process.send_signal(signal.SIGTERM)
            assert await anna.closed() == CloseCode.GOING_AWAY
            assert anna.heard[-1]["type"] == "bye"
        assert process.stderr is not None
        said = await process.stderr.read()
        assert await process.wait() == 0
        assert token.split(".")[2].encode() not in said
        assert KEYS.split(":")[1].encode() not in said


async def test_readiness_is_that_redis_runs_scripts() -> None:
    internal = free_port()
    async with (
        servers("redis") as own,
        a_process(
            FAIRLINE_REDIS_URL=own.redis_url,
            FAIRLINE_TOKEN_KEYS=KEYS,
            FAIRLINE_PORT="0",
            FAIRLINE_INTERNAL_PORT=str(internal),
            FAIRLINE_REDIS_TIMEOUT_S="0.3",
        ),
    ):
        answers: list[tuple[int, bytes]] = []

        async def answers_with(status: int) -> None:
            async with asyncio.timeout(30):
                while not answers or answers[-1][0] != status:
                    with contextlib.suppress(OSError):
                        answers.append(await fetched(f"http://127.0.0.1:{internal}/readyz"))

        await answers_with(200)
        freeze(own, signal.SIGSTOP)
        try:
            await answers_with(503)
            assert list(json.loads(answers[-1][1])["missing"]) == ["redis"]
        finally:
            freeze(own, signal.SIGCONT)
        await answers_with(200)


def freeze(own: Running, how: signal.Signals) -> None:
    os.kill(own.pid("redis"), how)


async def test_wrong_settings_end_it_with_a_line_for_each() -> None:
    async with a_process(FAIRLINE_PORT="none", FAIRLINE_REDIS_URL="http://x") as process:
        _, said = await process.communicate()
        assert process.returncode == 2
    for name in (b"FAIRLINE_PORT", b"FAIRLINE_REDIS_URL", b"FAIRLINE_TOKEN_KEYS"):
        assert name in said


async def test_a_taken_port_ends_it(redis_url: str) -> None:
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        async with a_process(
            FAIRLINE_REDIS_URL=redis_url, FAIRLINE_TOKEN_KEYS=KEYS, FAIRLINE_PORT=str(port)
        ) as process:
            _, said = await process.communicate()
            assert process.returncode == 1
            assert b"Address already in use" in said
