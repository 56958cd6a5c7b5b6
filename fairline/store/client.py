"""How a process connects to Redis. One factory, because the defaults of the client are wrong for us.

redis-py retries every command ten times, a script too, so one slow join would run eleven times: retries are ours, with
the same request id. RESP2, because the newer protocol raises on idle connections that the server closed.
"""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

MAX_CONNECTIONS = 32
POOL_WAIT_S = 2.0


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
