"""Is it ready? One bounded question for each kind of server; any trouble means no."""

import asyncio
import struct
from collections.abc import Awaitable, Callable

import asyncpg

from fairline.local.ports import LOOPBACK

_ANSWER_WITHIN_S = 2.0
# Metadata request, version 1, for no client id and all topics; its answer starts with the brokers of the
# cluster.
_KAFKA_METADATA = struct.pack(">ihhihi", 14, 3, 1, 1, -1, -1)


def redis(port: int) -> Callable[[], Awaitable[bool]]:
    """Answers PING and runs scripts, which it refuses while it still loads its data."""

    async def ready() -> bool:
        answer = await _exchange(port, b"PING\r\nEVAL 'return 1' 0\r\n", ends=b":1\r\n")
        return answer == b"+PONG\r\n:1\r\n"

    return ready


def kafka(port: int) -> Callable[[], Awaitable[bool]]:
    """The broker knows of itself, so that it can be given topics."""

    async def ready() -> bool:
        answer = await _exchange(port, _KAFKA_METADATA, least=12)
        return len(answer) >= 12 and int(struct.unpack_from(">i", answer, 8)[0]) > 0  # noqa: PLR2004

    return ready


def postgres(dsn: str) -> Callable[[], Awaitable[bool]]:
    """Takes a connection with the password and answers a query."""

    async def ready() -> bool:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                connection = await asyncpg.connect(dsn)
                try:
                    return bool(await connection.fetchval("SELECT 1") == 1)
                finally:
                    await connection.close()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False

    return ready


def http(port: int, path: str = "/readyz") -> Callable[[], Awaitable[bool]]:
    """Answers 200."""

    async def ready() -> bool:
        request = f"GET {path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n".encode()
        answer = await _exchange(port, request, ends=b"\r\n")
        return answer.split(b"\r\n", 1)[0].split(b" ")[1:2] == [b"200"]

    return ready


async def _exchange(port: int, question: bytes, *, ends: bytes = b"", least: int = 1) -> bytes:
    """What comes back up to ``ends`` or ``least`` bytes; nothing when nobody listens or it takes too long."""
    answer = b""
    writer = None
    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(question)
            while not (ends in answer if ends else len(answer) >= least):
                part = await reader.read(4096)
                if not part:
                    break
                answer += part
    except (OSError, TimeoutError):
        return b""
    finally:
        if writer is not None:
            writer.transport.abort()
    return answer
