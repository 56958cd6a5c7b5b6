"""How a process connects to Redis, and what it makes of Redis's errors.

One factory, because the defaults of the client are wrong for us: redis-py retries every command ten times, a script
too, so one slow join would run eleven times. Retries are ours, with the same request id. RESP2, because the newer
protocol raises on idle connections that the server closed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,  # noqa: A004
    InvalidResponse,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,  # noqa: A004
)

from fairline.errors import UnavailableError, UnfitServerError

# The type of a client too, for those who only pass it on.
__all__ = ["Redis", "answering", "check", "connect", "refuse_unfit"]

MAX_CONNECTIONS = 32
POOL_WAIT_S = 2.0
# What a Redis says that takes no writes now: a full disk, too few replicas (D6), a script of somebody else. Nothing was
# changed then: a script meets these at its first write. Of a pipeline the client puts the command before the words.
_NOT_NOW: Final = re.compile(r"(?:^|of pipeline caused error: \(['\"])(?:MISCONF|NOREPLICAS|BUSY) ")


def connect(url: str, *, name: str, timeout_s: float = 2.0, max_connections: int = MAX_CONNECTIONS) -> Redis:
    """A client whose connections say ``name``; opens none yet. A command without an answer in ``timeout_s`` raises."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=POOL_WAIT_S,
        protocol=2,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        socket_keepalive=True,
        health_check_interval=0,
        client_name=name,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)  # so that closing the client closes its connections


async def check(redis: Redis) -> None:
    """For ``/readyz`` of whoever writes: scripts run, and nothing is thrown away when memory is full (L7).

    Raises ``UnavailableError``, or ``UnfitServerError`` which says what to set.
    """
    with answering():
        await redis.eval("return 1", 0)
        memory = await redis.info("memory")
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnfitServerError(
            f"Redis has maxmemory-policy {policy}, so it may throw tickets away when its memory is full; "
            "set maxmemory-policy noeviction"
        )


async def refuse_unfit(redis: Redis) -> None:
    """At start: raises ``UnfitServerError``. A Redis that is away is no reason not to start; ``check`` asks again."""
    with suppress(UnavailableError):
        await check(redis)


@contextmanager
def answering() -> Iterator[None]:
    """Turn the driver's errors into ``UnavailableError``, so that no service has to know the driver."""
    try:
        yield
    except (ConnectionError, TimeoutError, ReadOnlyError, OutOfMemoryError, ClusterDownError, OSError) as error:
        raise UnavailableError(f"Redis does not answer: {error}") from error
    except InvalidResponse as error:
        raise UnavailableError(f"What answers is no Redis: {error}") from error
    except ResponseError as error:
        if _NOT_NOW.search(str(error)):
            raise UnavailableError(f"Redis takes nothing now: {error}") from error
        raise
