"""What a gateway does when it is asked for more than it can: ``python -m loadtest.overload [--rounds N]``.

Starts a Redis and a gateway of its own and sends buyers from a process of its own (``loadtest.open_loop``), all on this
machine. Three questions, each answered by a ratio of figures from this one run, whose rounds take turns, so that a slow
moment of the machine hits all alike:

* goodput: of the joins offered at twice the rate at which most are answered in time, how many still are?
* another sale: how do the buyers of a calm sale fare while another sale surges at twice that rate?
* refusing: what of a join's processor time does it take to refuse one?
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from fairline.store.client import connect
from loadtest.open_loop import Heard, Plan, Report, Stream
from tests.support.gateway import environment_of, free_port
from tests.support.sale import SaleDriver
from tests.support.stack import servers

STOCK: Final = 1_000_000
SECONDS: Final = 2.0
FIRST_RATE: Final = 1_000.0
STEP: Final = 1.25
SHARES: Final = (0.8, 1.0, 1.25, 2.0)  # of the peak, offered in turn
CALM_RATE: Final = 100.0
REFUSALS_A_SECOND: Final = 2_000.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Bench:
    """A gateway on a Redis, and how to surge at it."""

    def __init__(self, redis: Any, redis_pid: int, port: int, pid: int) -> None:
        self.redis = redis
        self.redis_pid = redis_pid
        self.port = port
        self._pid = pid
        self._seed = 0

    async def surge(self, *rates: float, seconds: float = SECONDS) -> tuple[Report, float]:
        """A sale for each rate, and what their buyers heard; the gateway's processor time in seconds."""
        self._seed += 1
        sales = [await SaleDriver.opened(self.redis, STOCK) for _ in rates]
        streams = [Stream(sale.id, rate) for sale, rate in zip(sales, rates, strict=True)]
        report, worked_s = await self.play(Plan(self.port, seconds, streams, seed=self._seed))
        for sale in sales:
            await sale.remove()
        return report, worked_s

    async def play(self, plan: Plan) -> tuple[Report, float]:
        """Send these buyers; the gateway's processor time, warming up included."""
        before = self._worked_s()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "loadtest.open_loop",
            msgspec.json.encode(plan).decode(),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        return msgspec.json.decode(said, type=Report), self._worked_s() - before

    def _worked_s(self) -> float:
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Until the block ends."""
    async with servers("redis") as running:
        redis = connect(running.redis_url, name="bench", timeout_s=30)
        port = free_port()
        gateway = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", env={**os.environ, **environment_of(running.redis_url, port)}
        )
        try:
            await _until_open(port)
            yield Bench(redis, running.pid("redis"), port, gateway.pid)
        finally:
            gateway.terminate()
            await gateway.wait()
            await redis.aclose()


async def _until_open(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise TimeoutError("the gateway did not start")


def _print(what: str, heard: Heard, report: Report) -> None:
    answers = ", ".join(f"{number:,} x {status}" for status, number in sorted(heard.statuses.items()))
    print(
        f"{what:<28} {heard.sent / SECONDS:>7,.0f} {heard.goodput:>8,.0f} {heard.p50_ms:>7.0f} {heard.p99_ms:>7.0f} "
        f"{heard.late:>6,} {heard.lost:>6,}   {answers}; generator {report.late_ms:.0f} ms behind",
        flush=True,
    )


def _head(title: str) -> None:
    print(f"\n{title}\n{'':<28} {'offered':>7} {'goodput':>8} {'p50 ms':>7} {'p99 ms':>7} {'late':>6} {'lost':>6}")


async def find_peak(one: Bench) -> float:
    """The goodput beyond which offering more gives no more."""
    _head("Looking for the peak")
    best, rate, worse = 0.0, FIRST_RATE, 0
    await one.surge(FIRST_RATE)  # what is slow the first time
    while worse < 2 and rate < 40_000:
        report, _ = await one.surge(rate)
        [heard] = report.streams
        _print("", heard, report)
        worse = 0 if heard.goodput > best * 1.03 else worse + 1
        best, rate = max(best, heard.goodput), rate * STEP
    if best == 0:
        raise SystemExit("not one join was answered in time: this machine is too busy with other work to measure on")
    return best


async def goodput(one: Bench, peak: float, rounds: int) -> None:
    """At shares of the peak, in turn."""
    _head(f"Goodput around a peak of {peak:,.0f} joins a second")
    found: dict[float, list[float]] = {share: [] for share in SHARES}
    for _ in range(rounds):
        for share in SHARES:
            report, _ = await one.surge(peak * share)
            found[share].append(report.streams[0].goodput)
            _print(f"{share:g} x the peak", report.streams[0], report)
    medians = {share: statistics.median(figures) for share, figures in found.items()}
    most = max(medians.values())
    for share, median in medians.items():
        print(f"{share:g} x: median {median:,.0f} a second, {median / most:.2f} of the most")
    print(f"GOODPUT at twice the peak / most goodput: {medians[SHARES[-1]] / most:.2f}")


async def neighbours(one: Bench, peak: float, rounds: int) -> None:
    """A calm sale alone, and beside one that surges."""
    _head("A calm sale beside a surge")
    alone, beside = list[Heard](), list[Heard]()
    for _ in range(rounds):
        report, _ = await one.surge(CALM_RATE)
        alone.append(report.streams[0])
        _print("calm, alone", report.streams[0], report)
        report, _ = await one.surge(CALM_RATE, 2 * peak)
        beside.append(report.streams[0])
        _print("calm, beside a surge", report.streams[0], report)
        _print("the surge, 2 x the peak", report.streams[1], report)

    def median(of: list[Heard], what: str) -> float:
        return statistics.median(float(getattr(heard, what)) for heard in of)

    share = [sum(h.good for h in group) / max(1, sum(h.sent for h in group)) for group in (alone, beside)]
    print(
        f"CALM sale, answered in time: {share[0]:.3f} alone, {share[1]:.3f} beside the surge: {share[1] / share[0]:.2f}"
    )
    p99 = [median(group, "p99_ms") for group in (alone, beside)]
    print(f"CALM sale, median p99: {p99[0]:.0f} ms alone, {p99[1]:.0f} ms beside the surge: {p99[1] / p99[0]:.1f} x")


async def refusing(one: Bench, peak: float, rounds: int) -> None:
    """Processor time of the gateway: of joins that are made; of refusals, while Redis is frozen and no place free."""
    _head("What refusing costs")
    join_us, refusal_us = list[float](), list[float]()
    for _ in range(rounds):
        report, worked_s = await one.surge(0.8 * peak)
        _print("joins", report.streams[0], report)
        join_us.append(worked_s / _answered(0.8 * peak) * 1e6)
        sale = await SaleDriver.opened(one.redis, STOCK)
        await one.play(Plan(one.port, 0.2, [Stream(sale.id, 100)]))  # so that the gateway knows it
        os.kill(one.redis_pid, signal.SIGSTOP)
        try:
            report, worked_s = await one.play(Plan(one.port, SECONDS, [Stream(sale.id, 2 * peak)], patience_s=0.1))
        finally:
            os.kill(one.redis_pid, signal.SIGCONT)
        _print("refused", report.streams[0], report)
        refusal_us.append(worked_s / _answered(2 * peak) * 1e6)
        await sale.remove()
    join, refusal = statistics.median(join_us), statistics.median(refusal_us)
    print(f"REFUSING takes {refusal:.0f} us of processor time, a join {join:.0f} us: {refusal / join:.2f} of it")


def _answered(rate: float) -> float:
    return rate * (SECONDS + Plan(0, 0, []).warm_s)  # those of warming up were answered too


async def main(rounds: int) -> None:
    """Measure and print."""
    async with bench() as one:
        peak = await find_peak(one)
        await goodput(one, peak, rounds)
        await neighbours(one, peak, rounds)
        await refusing(one, peak, min(rounds, 3))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, choices=range(1, 21), metavar="1..20")
    asyncio.run(main(options.parse_args().rounds))
