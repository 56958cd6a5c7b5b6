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


async def adopt(redis_url: str, was: str) -> list[str]:
    """Fence the sales of the Redis called ``was`` to this one; their ids. A second call finds nothing to do."""
    redis = connect(redis_url, name="fairline-fence")
    try:
        return await Sales(Room(redis)).adopt(was)
    finally:
        await redis.aclose()
