"""The identity of a Redis, and what may be done about it after a clean stop (D1).

``master_replid`` differs after every restart and every promotion, so a sale halts at each. The local stack, which has
seen Redis exit with code 0 after everybody else had ended, knows that nothing was lost and may say so.
"""

from fairline.store.client import connect
from fairline.store.room import Room
from fairline.store.sales import Sales


async def identity(redis_url: str) -> str:
    """``master_replid`` of the Redis at this address."""
    redis = connect(redis_url, name="fairline-fence")
    try:
        info = await redis.info("replication")
        return str(info["master_replid"])
    finally:
        await redis.aclose()


async def kept_identity(redis_url: str) -> str | None:
    """The same, if the append-only file has all that was acknowledged; else nothing.

    A Redis whose disk is full answers the last writes before it refuses more, and ends with code 0 without them.
    """
    redis = connect(redis_url, name="fairline-fence")
    try:
        saved = await redis.info("persistence")
        if not saved["aof_enabled"] or saved["aof_last_write_status"] != "ok":
            return None
        return str((await redis.info("replication"))["master_replid"])
    finally:
        await redis.aclose()


async def adopt(redis_url: str, was: str) -> list[str]:
    """Fence the sales of the Redis called ``was`` to this one; their ids. A second call finds nothing to do."""
    redis = connect(redis_url, name="fairline-fence")
    try:
        return await Sales(Room(redis)).adopt(was)
    finally:
        await redis.aclose()
