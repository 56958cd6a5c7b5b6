"""Retries, by tenacity: how often, how long and with what jitter is said here and nowhere else."""

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

T = TypeVar("T")


async def retry(
    call: Callable[[], Awaitable[T]],
    *,
    on: type[BaseException] | tuple[type[BaseException], ...],
    attempts: int = 3,
    first_s: float = 0.05,
    longest_s: float = 1.0,
    within_s: float = 30.0,
) -> T:
    """Call until it succeeds, ``attempts`` times within ``within_s`` at most, full jitter; raises the last error."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(on),
        stop=stop_after_attempt(attempts) | stop_after_delay(within_s),
        wait=wait_random_exponential(multiplier=first_s, max=longest_s),
        reraise=True,
    ):
        with attempt:
            return await call()
    raise AssertionError("unreachable: tenacity re-raises the last error")


def spread(seconds: float) -> float:
    """Between half of a rest and all of it, so that those who failed together do not come back together.

    For rests that are kept by others than ``retry``: a loop that waits, a record that is deferred.
    """
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
