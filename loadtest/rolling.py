"""What a rolling restart costs buyers: ``python -m loadtest.rolling [--rate 40] [--seconds 60] [--rounds 1]``.

Starts a stack of its own with two copies of every service and plays the same load on it in turns: in calm, and while
its eight processes are replaced one at a time (SIGTERM, its end, its successor ready, the next one), round and round,
until the load is over. Each sale is judged by the eight invariants. Absolute times are this machine's; the ratio of the
two lines, from one run, travels, if nothing else runs on the machine.
"""

import argparse
import asyncio
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Final

from fairline.demo.log import percentiles
from fairline.demo.scenario import Scenario
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import Scene, all_ready, kill

SERVICES: Final = ("gateway", "admission", "order_service", "notifier")
PROCESSES: Final = tuple(name for service in SERVICES for name in (service, f"{service}-2"))
GATEWAYS, NOTIFIERS = ("gateway", "gateway-2"), ("notifier", "notifier-2")
LINGER: Final = {"FAIRLINE_GATEWAY_LINGER_S": "2"}  # the default, without which the local stack does
READY_WITHIN_S: Final = 60.0


@dataclass
class Line:
    """One kind of round, all of them added up. Times in milliseconds."""

    name: str
    join_ms: list[float] = field(default_factory=list)
    result_ms: list[float] = field(default_factory=list)
    put_off: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    replaced: int = 0


def _is_another(stack: FullStack, name: str, before: int) -> bool:
    return stack.pid(name) != before


async def replace(stack: FullStack, played: asyncio.Task[None]) -> int:
    """Replace one process after the other until the load is over; how many."""
    for done, name in enumerate(cycle(PROCESSES)):
        if played.done():
            return done
        (before,) = kill(stack, name, number=signal.SIGTERM)
        await eventually(partial(_is_another, stack, name, before), within_s=READY_WITHIN_S)
        await all_ready(stack, within_s=READY_WITHIN_S)
    return 0


async def play(stack: FullStack, line: Line, *, rate: float, seconds: float, restarts: bool) -> None:
    """One round."""
    requests = round(rate * seconds)
    load = Scenario(
        sale_id=a_name(of="load"),
        seed=1,
        buyers=requests * 10,  # hardly anybody comes twice
        requests=requests,
        items=2,
        stock=requests,
        name="A steady sale",
    )
    give_up_s = seconds + READY_WITHIN_S
    async with Scene(stack, load, over_s=seconds, gateways=GATEWAYS, notifiers=NOTIFIERS, give_up_s=give_up_s) as scene:
        played = asyncio.create_task(scene.played())
        if restarts:
            line.replaced += await replace(stack, played)
        await played
        evidence = await scene.finish(lost=True)
    line.join_ms += scene.crowd.log.join_ms()
    line.result_ms += scene.crowd.log.result_ms()
    line.put_off.update(f"{each.status or 'no answer'} {each.word}" for each in scene.crowd.log.put_off)
    line.rows += len(evidence.rows)


def show(lines: Sequence[Line]) -> None:
    """Print the table and the ratios."""
    print(f"\n{'':<18}{'joins':>8}{'p50':>9}{'p99':>9}{'results':>10}{'p50':>9}{'p99':>9} ms")
    for line in lines:
        joins, results = percentiles(line.join_ms), percentiles(line.result_ms)
        print(
            f"{line.name:<18}{len(line.join_ms):>8}{joins['p50']:>9.1f}{joins['p99']:>9.1f}"
            f"{len(line.result_ms):>10}{results['p50']:>9.1f}{results['p99']:>9.1f}"
        )
    calm, rolling = lines
    for what, one, other in (("joins", calm.join_ms, rolling.join_ms), ("results", calm.result_ms, rolling.result_ms)):
        print(f"p99 of {what}: {percentiles(other)['p99'] / percentiles(one)['p99']:.2f} times that of the calm rounds")
    print(f"{rolling.replaced} processes replaced; put off meanwhile: {dict(rolling.put_off) or 'nobody'}")
    print(f"{calm.rows} and {rolling.rows} units in Postgres; every invariant holds in each sale")


async def main(rate: float, seconds: float, rounds: int) -> None:
    """Play and print."""
    calm, rolling = Line("calm"), Line("rolling restart")
    async with FullStack(copies=dict.fromkeys(SERVICES, 2), environ=LINGER) as stack:
        await all_ready(stack, within_s=READY_WITHIN_S)
        for number in range(rounds):
            for line in (calm, rolling):
                print(f"round {number + 1} of {rounds}: {line.name}")
                await play(stack, line, rate=rate, seconds=seconds, restarts=line is rolling)
    show((calm, rolling))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=40.0, help="joins a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load, each round")
    parser.add_argument("--rounds", type=int, default=1)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.rate, chosen.seconds, chosen.rounds))
