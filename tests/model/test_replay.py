"""Ways through the model, taken by the real scripts, writer and recovery: the same state after every step.

Dice choose ``MODEL_WALKS`` ways through each scenario, 40 where it is not set, and those are taken in which something
becomes of a ticket, or of a sale that is rebuilt, that became of none before.
"""

import asyncio
import os
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import cache

import aiohttp
import pytest

from admission.records import Records
from fairline.runtime.health import Health, HttpServer
from fairline.runtime.metrics import Metrics
from fairline.store.client import connect
from order_service.migrate import migrate
from order_service.reads import Reads
from tests.model.basis import Step
from tests.model.invariants import watch
from tests.model.replay import ELSEWHERE, REPLAYED, Servers
from tests.model.replay_losses import LossyReplay
from tests.model.scenarios import DEEP, SCENARIOS
from tests.model.system import System
from tests.model.telling import told
from tests.model.world import World, start
from tests.support.orders import Desk
from tests.support.recovering import free_port
from tests.support.stack import servers as running

WALKS = int(os.environ.get("MODEL_WALKS", "40"))
LONGEST = 80
WAYS_THROUGH = DEEP | SCENARIOS  # a way is as easily found in a scenario that takes minutes to explore
# How much more often something happens by itself than not: else all that goes wrong does so before there is an order.
BY_ITSELF = 3

Happening = tuple[str, str, str]  # the kind of step; a ticket, or the sale, before and after it

# D3, of tickets and of the sale, but for units that are sold to somebody else: with all rules they never are.
OF_A_REBUILD = {
    *(("unknown, confirmed", "CONFIRMED, confirmed"), ("unknown, not_writable", "RELEASED, not_writable")),
    *(("ADMITTED, confirmed", "CONFIRMED, confirmed"), ("RELEASED, not_writable",) * 2),
    *(("RESERVED, confirmed", "CONFIRMED, confirmed"), ("RESERVED, not_writable", "RELEASED, not_writable")),
    *(("WAITING, confirmed", "CONFIRMED, confirmed"), ("CONFIRMED, confirmed", "CONFIRMED, confirmed")),
    *(("RESERVED", "RESERVED"), ("DECLINED", "DECLINED"), ("LEFT", "LEFT"), ("SOLD_OUT", "SOLD_OUT")),
    *((", held", ", held"), ("open, ahead of Postgres, held",) * 2, ("ended, closing, held",) * 2),
    *(("ADMITTED", "WAITING unseen"), ("WAITING", "WAITING unseen"), ("WAITING unseen", "WAITING unseen")),
}


def by_dice(name: str, seed: int) -> Iterator[tuple[World, Step]]:
    """Steps chosen by dice, each with the world before it. Each way has habits: what it seldom does, and what often."""
    dice, system = random.Random(f"{name} {seed}"), System(WAYS_THROUGH[name])
    habits = defaultdict[str, float](lambda: dice.choice((0.1, 1, 3)))
    world = start(WAYS_THROUGH[name])
    for _ in range(LONGEST):
        steps = sorted(system.steps(world), key=lambda step: (step.name, repr(step.args)))
        if not steps:
            return
        kinds = {step.name: habits[step.name] * (BY_ITSELF if step.fair else 1) for step in steps}
        [kind] = dice.choices(list(kinds), list(kinds.values()))
        step = dice.choice([step for step in steps if step.name == kind])
        step = step._replace(world=watch(system, world, step))
        yield world, step
        world = step.world


def happenings(was: World, step: Step) -> Iterator[Happening]:
    """What becomes of the sale and of tickets; of all of them, where an order is decided or the sale rebuilt."""
    for at in range(len(was.told)):
        before, after = _look(was, at), _look(step.world, at)
        if before != after or step.name in {"write", "recovery refills"}:
            yield step.name, before, after
    if step.name in {"recovery claims", "recovery refills", "recovery installs"}:
        yield step.name, _look_at_sale(was), _look_at_sale(step.world)
    else:
        yield step.name, "", ""


def _look_at_sale(world: World) -> str:
    redis, held = world.redis, world.redis.claim
    return ", ".join(
        (
            redis.state,
            *(["closing"] if redis.closing else []),
            *(["ahead of Postgres"] if redis.version > world.postgres.version else []),
            *(["held" if held[1] == world.instance else "held on another Redis"] if held[0] else []),
        )
    )


def _look(world: World, at: int) -> str:
    ticket, verdict = world.redis.tickets[at], world.postgres.verdicts[at]
    state = "unknown" if ticket is None else ticket.state.value if ticket.seen else f"{ticket.state.value} unseen"
    return state if verdict is None else f"{state}, {verdict.reason or 'confirmed'}"


@cache
def chosen() -> tuple[dict[str, list[list[Step]]], set[Happening]]:
    """The ways through each scenario, one at least, and all that happens in them."""
    seen, ways = set[Happening](), dict[str, list[list[Step]]]()
    for name in WAYS_THROUGH:
        ways[name] = []
        for seed in range(WALKS):
            way = list(by_dice(name, seed))
            new = {each for was, step in way for each in happenings(was, step)} - seen
            if new or not ways[name]:
                seen |= new
                ways[name].append([step for _, step in way])
    return ways, seen


@pytest.fixture(scope="module")
async def servers(postgres_dsn: str) -> AsyncIterator[Servers]:
    """A Redis of its own, which becomes another one now and then; and the internal port of the order service."""
    await migrate(postgres_dsn)
    desk, stopping, port = Desk(postgres_dsn), asyncio.Event(), free_port()
    reads = HttpServer(Reads(desk.postgres, Health(Metrics(), {})), host="127.0.0.1", port=port)
    serving = asyncio.create_task(reads.run(stopping))
    async with running("redis") as own, aiohttp.ClientSession() as session:
        redis = connect(own.redis_url, name="fairline-model", timeout_s=10)
        yield Servers(redis, desk, Records(session, f"http://127.0.0.1:{port}"))
        await redis.aclose()
    stopping.set()
    await serving
    await desk.postgres.close()


async def replay(servers: Servers, name: str, way: Iterable[Step]) -> None:
    """Take a way of this scenario; what was taken is in the notes of an error."""
    real = await LossyReplay.of(WAYS_THROUGH[name], servers)
    first, taken = start(WAYS_THROUGH[name]), list[Step]()
    try:
        await real.compare(first)
        for step in way:
            taken.append(step)
            await real.step(step)
    except Exception as error:
        error.add_note("\n".join(told(first, taken)))
        raise
    finally:
        await real.end()


@pytest.mark.parametrize("name", WAYS_THROUGH)
async def test_the_real_scripts_writer_and_recovery_go_the_same_ways(servers: Servers, name: str) -> None:
    ways, _ = chosen()
    for way in ways[name]:
        await replay(servers, name, way)


def test_every_kind_of_step_is_taken() -> None:
    _, happened = chosen()
    assert {kind for kind, *_ in happened} - ELSEWHERE.keys() == REPLAYED


def test_d3_whatever_a_rebuild_finds_and_makes_of_it_is_taken() -> None:
    _, happened = chosen()
    assert {(before, after) for kind, before, after in happened if kind == "recovery refills"} >= OF_A_REBUILD
