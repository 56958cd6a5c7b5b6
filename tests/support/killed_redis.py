"""A Redis that is killed and comes back from its file with everything that it was told."""

import os
import signal
from contextlib import aclosing

from redis.exceptions import RedisError

from fairline.store.client import connect
from fairline.store.fence import identity
from tests.support.stack import Running, eventually


async def kill_redis(running: Running) -> None:
    """Kill it when all is in its file; returns when another Redis answers there.

    On a busy disk ``appendfsync everysec`` keeps writes in memory for up to two seconds, and a kill would lose them.
    """
    was = await identity(running.redis_url)
    async with aclosing(connect(running.redis_url, name="killer")) as redis:

        async def all_written() -> bool:
            return bool((await redis.info("persistence"))["aof_buffer_length"] == 0)

        await eventually(all_written)
    os.kill(running.pid("redis"), signal.SIGKILL)

    async def came_back() -> bool:
        try:
            return await identity(running.redis_url) != was
        except (RedisError, OSError):
            return False

    await eventually(came_back)
