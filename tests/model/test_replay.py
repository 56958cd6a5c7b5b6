"""Ways through the model, taken by the real scripts and the real writer: the same state after every step.

``MODEL_WALKS`` is how many ways are taken through each scenario, 3 where it is not set. Each is chosen by dice; their
seed is in the name of the test.
"""

import os
import random
from collections.abc import AsyncIterator, Iterable, Iterator

import pytest
from redis.asyncio import Redis

from fairline.store.client import connect
from order_service.migrate import migrate
from tests.model.basis import Step
from tests.model.explore import shortest
from tests.model.invariants import watch
from tests.model.replay import ELSEWHERE, Replay
from tests.model.scenarios import SCENARIOS
from tests.model.system import System
from tests.model.telling import told
from tests.model.world import start
from tests.support.orders import Desk

WALKS = int(os.environ.get("MODEL_WALKS", "3"))
LONGEST = 80
WITHOUT_LOSS = (
    *("line", "controllers die", "shop is away", "shop never answers", "two skus", "several units", "too few units"),
    *(
        "kept line",
        "writers die",
        "sent twice",
        "dead letters",
        "Kafka loses",
        "pause, more, end",
        "less",
        "less, then more",
    ),
)
# Steps that come about in some way or other; that none is left out is a test of its own.
REPLAYED = ELSEWHERE | {
    *(
        "join",
        "readmit",
        "leave",
        "pause",
        "resume",
        "end",
        "stock",
        "admit",
        "reserve",
        "decline",
        "give back",
        "lease ends",
    ),
    *("reserve, the reply is lost", "decline, the reply is lost", "sweep", "close", "redrive", "redrive the change"),
    *("relay", "relay, the answer is lost", "settle", "acknowledge", "take over", "write", "write, then die"),
    "give up for good",
}


# Where dice seldom lead to.
RARE = {"readmit": "dead letters", "decline, the reply is lost": "controllers die"}


def by_dice(name: str, seed: int) -> Iterator[Step]:
    """Steps chosen by dice."""
    dice, system = random.Random(f"{name} {seed}"), System(SCENARIOS[name])
    world = start(SCENARIOS[name])
    for _ in range(LONGEST):
        steps = sorted(system.steps(world), key=lambda step: (step.name, repr(step.args)))
        if not steps:
            return
        kind = dice.choice(sorted({step.name for step in steps}))
        step = dice.choice([step for step in steps if step.name == kind])
        world = watch(system, world, step)
        yield step._replace(world=world)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url, name="fairline-model", timeout_s=10)
    yield client
    await client.aclose()


@pytest.fixture
async def desk(postgres_dsn: str) -> AsyncIterator[Desk]:
    await migrate(postgres_dsn)
    desk = Desk(postgres_dsn)
    yield desk
    await desk.postgres.close()


async def replay(redis: Redis, desk: Desk, name: str, way: Iterable[Step]) -> None:
    """Take a way of this scenario; what was taken is in the notes of an error."""
    real = await Replay.of(SCENARIOS[name], redis, desk)
    first, taken = start(SCENARIOS[name]), list[Step]()
    await real.compare(first)
    try:
        for step in way:
            taken.append(step)
            await real.step(step)
    except AssertionError as error:
        error.add_note("\n".join(told(first, taken)))
        raise
    finally:
        await real.sale.remove()


@pytest.mark.parametrize("seed", range(WALKS))
@pytest.mark.parametrize("name", WITHOUT_LOSS)
async def test_the_real_scripts_and_the_real_writer_go_the_same_way(
    redis: Redis, desk: Desk, name: str, seed: int
) -> None:
    await replay(redis, desk, name, by_dice(name, seed))


@pytest.mark.parametrize("kind", RARE)
async def test_so_they_do_where_dice_seldom_lead(redis: Redis, desk: Desk, kind: str) -> None:
    await replay(redis, desk, RARE[kind], shortest(SCENARIOS[RARE[kind]], kind))


def test_every_kind_of_step_is_taken_by_one_of_the_ways() -> None:
    taken = {step.name for name in WITHOUT_LOSS for seed in range(max(3, WALKS)) for step in by_dice(name, seed)}
    assert taken | RARE.keys() == REPLAYED
