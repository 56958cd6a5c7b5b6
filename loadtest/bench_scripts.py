"""What a ticket costs Redis, by how many go in one script call: ``python -m loadtest.bench_scripts [--tickets N]``.

Starts a Redis of its own and asks it (``INFO commandstats``) how long it worked, so that neither the network nor Python
is in the figures. Absolute times are this machine's; the ratio of two lines, measured in turns in one run, travels.
"""

import argparse
import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from fairline.ids import new_ticket_id
from fairline.store.client import connect
from fairline.store.tickets import Join
from tests.support.sale import SaleDriver
from tests.support.stack import servers

ROUNDS: Final = 5  # each case in turn, so that a slow moment of the machine hits them alike
JOIN_SIZES: Final = (1, 32, 128)
SELL_SIZES: Final = (1, 100)
SCRIPTS: Final = ("cmdstat_evalsha", "cmdstat_eval")


@dataclass
class Case:
    """One line of the table."""

    what: str
    size: int
    run: Callable[[SaleDriver, int, int], Awaitable[None]]
    us: list[float] = field(default_factory=list)

    @property
    def median_us(self) -> float:
        """Of a ticket."""
        return statistics.median(self.us)


async def _join(sale: SaleDriver, tickets: int, size: int) -> None:
    for first in range(0, tickets, size):
        joins = [Join(new_ticket_id(), "seat", f"buyer-{n}", 1) for n in range(first, min(first + size, tickets))]
        await sale.room.join(sale.id, joins, max_waiting=tickets)


async def _sell(sale: SaleDriver, tickets: int, size: int) -> None:
    sold = 0
    while sold < tickets:
        lease, grant = await sale.admit(size, outbox_limit=10 * tickets)
        await sale.reserve(lease, *grant.ids)
        sold += len(grant.ids)


async def _worked_us(redis: Any) -> float:
    stats = await redis.info("commandstats")
    return float(sum(stats[name]["usec"] for name in SCRIPTS if name in stats))


async def _measure(redis: Any, case: Case, tickets: int) -> None:
    sale = await SaleDriver.opened(redis, tickets)
    if case.run is _sell:
        await _join(sale, tickets, 100)
    before = await _worked_us(redis)
    await case.run(sale, tickets, case.size)
    case.us.append((await _worked_us(redis) - before) / tickets)
    await sale.remove()


def _print(cases: list[Case]) -> None:
    print(f"{'':<17} {'a call':>7} {'us a ticket':>12} {'(least to most)':>17} {'ratio':>7}")
    for case in cases:
        one = next(other for other in cases if other.what == case.what)
        spread = f"{min(case.us):.1f} to {max(case.us):.1f}"
        ratio = f"{one.median_us / case.median_us:.1f}x"
        print(f"{case.what:<17} {case.size:>7} {case.median_us:>12.1f} {spread:>17} {ratio:>7}")


@asynccontextmanager
async def _own_redis() -> AsyncIterator[Any]:
    async with servers("redis") as running:
        redis = connect(running.redis_url, name="bench", timeout_s=30)
        yield redis
        await redis.aclose()


async def main(tickets: int) -> None:
    """Measure and print."""
    cases = [Case("join", size, _join) for size in JOIN_SIZES]
    cases += [Case("admit and reserve", size, _sell) for size in SELL_SIZES]
    async with _own_redis() as redis:
        for _ in range(ROUNDS):
            for case in cases:
                await _measure(redis, case, tickets)
        version = (await redis.info("server")).get("valkey_version") or (await redis.info("server"))["redis_version"]
    print(f"Redis or Valkey {version}, {tickets:,} tickets, median of {ROUNDS} rounds, time inside Redis only")
    _print(cases)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tickets", type=int, default=2_000, help="in each round of each case")
    asyncio.run(main(options.parse_args().tickets))
