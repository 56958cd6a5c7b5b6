"""Whole controllers, as their process runs them, on a real Redis and a real Kafka; Postgres is played by a stand-in."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from admission.app import start
from fairline.errors import UnavailableError, UnfitServerError
from fairline.events import OrderPlaced
from fairline.sale import Validator
from fairline.store import keys as names
from fairline.store.client import connect
from tests.integration.admission.conftest import NewSale
from tests.support.admission import NOWHERE, RunningAdmission, admission_settings, an_admission, until
from tests.support.fake_writer import FakeWriter
from tests.support.sale import SaleDriver
from tests.support.sale_facts import faults_of
from tests.support.stack import servers

QUIET = {"CONFIRMED", "DECLINED", "SOLD_OUT", "RELEASED", "LAPSED", "LEFT"}

# Both counts and the time at one instant, so that what is between two samples happened between their times.
_SAMPLE = """
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
return {ms, redis.call('HGET', KEYS[1], ARGV[1]) or 0, redis.call('ZCARD', KEYS[2])}
"""


@pytest.fixture
async def alone(redis: Redis) -> AsyncIterator[None]:
    """No other test's sale is registered: whole controllers serve all they find, and leases end when they are many."""
    await redis.delete(names.SALES)
    yield
    assert not [task.get_name() for task in asyncio.all_tasks() if re.match(r"desk|decide|Roster", task.get_name())]


def _settings(redis_url: str, kafka: str, **changed: object) -> Any:
    quick = {"drain_s": 5, "lease_ms": 2000, "margin_ms": 200, "redrive_after_ms": 1000, "redrive_longest_ms": 2000}
    return admission_settings(redis_url=redis_url, kafka=kafka, **quick | changed)


def _all_told(sale: SaleDriver, ids: list[str]) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return set(await sale.states(*ids)) <= QUIET

    return look


async def _watch(sale: SaleDriver, samples: list[tuple[int, int, int]]) -> None:
    raw: Any = sale.redis
    while True:
        at_ms, admitted, leased = await raw.eval(
            _SAMPLE, 2, sale.keys.counts, sale.keys.leases, f"{sale.skus[0]}:admitted_total"
        )
        samples.append((int(at_ms), int(admitted), int(leased)))
        await asyncio.sleep(0.005)


def _fastest(samples: list[tuple[int, int, int]], *, rate: float) -> float:
    """By how much any window exceeds what the bucket gives in it (P1); not above 0 when all is well."""
    window = max(10.0, 10 / rate)
    depth = max(1.0, rate * 0.1)
    per_ms = (window * rate - depth) / window / 1000
    return max(
        (after[1] - before[1]) - depth - (after[0] - before[0] + 1) * per_ms
        for at, before in enumerate(samples)
        for after in samples[at + 1 :]
    )


async def test_a_sale_is_created_opened_sold_and_closed(
    new_sale: NewSale, redis_url: str, topics_of: str, alone: None
) -> None:
    sale = await new_sale(3, draft=True)
    async with FakeWriter(topics_of, sale.id) as writer, an_admission(_settings(redis_url, topics_of)):

        async def opened() -> bool:
            return (await sale.change("open")).word in {"CHANGED", "SAME"}

        await until(opened, within_s=60)
        ids = await sale.join(*(f"buyer-{at}" for at in range(8)))
        await until(_all_told(sale, ids))
        assert await sale.states(*ids) == ["CONFIRMED"] * 3 + ["SOLD_OUT"] * 5
        assert set(writer.verdicts) == set(ids[:3])
        assert writer.twice == []
        await sale.change("end")

        async def closed() -> bool:
            return (await sale.look()).meta["state"] == "closed"

        await until(closed)


async def test_4_an_order_that_postgres_refuses_goes_to_the_next_in_line(
    new_sale: NewSale, redis_url: str, topics_of: str, alone: None
) -> None:
    sale = await new_sale(2)

    def refuse_ada(order: OrderPlaced) -> Any:
        return "not_writable" if order.buyer_id == "ada" else ""

    async with (
        FakeWriter(topics_of, sale.id, decide=refuse_ada) as writer,
        an_admission(_settings(redis_url, topics_of)),
    ):
        ids = await sale.join("ada", "bob", "cy", "dee")
        await until(_all_told(sale, ids))
        assert await sale.states(*ids) == ["RELEASED", "CONFIRMED", "CONFIRMED", "SOLD_OUT"]
        assert {unit for _, _, unit in writer.sold} == {1, 2}


async def test_o3_an_order_that_got_lost_is_sent_again_and_settles(
    new_sale: NewSale, redis_url: str, topics_of: str, alone: None
) -> None:
    sale = await new_sale(2)
    [lost] = await sale.join("ada")
    lease, _ = await sale.admit()
    await sale.reserve(lease, lost, redrive_ms=1)
    await sale.relay()  # as if Kafka had lost it after it acknowledged
    async with FakeWriter(topics_of, sale.id), an_admission(_settings(redis_url, topics_of)):
        await until(_all_told(sale, [lost]))
    assert await sale.states(lost) == ["CONFIRMED"]


async def test_6_two_controllers_are_never_faster_than_told_and_keep_the_order(
    new_sale: NewSale, redis_url: str, topics_of: str, alone: None
) -> None:
    rate, capacity = 40.0, 5
    sale = await new_sale(1000, rate_per_s=rate, capacity=capacity)
    settings = _settings(redis_url, topics_of, lease_ms=60_000)  # none ends, however busy the machine
    samples: list[tuple[int, int, int]] = []
    async with FakeWriter(topics_of, sale.id) as writer, an_admission(settings), an_admission(settings):
        watching = asyncio.create_task(_watch(sale, samples))
        ids = await sale.join(*(f"buyer-{at}" for at in range(120)))
        await until(_all_told(sale, ids))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert await sale.states(*ids) == ["CONFIRMED"] * 120
    assert await sale.count("admitted_total") == 120, "nobody was admitted twice"
    assert _fastest(samples, rate=rate) <= 0.01
    halfway = samples[len(samples) // 2][0]
    burst = [(at, admitted + (120 if at >= halfway else 0), leased) for at, admitted, leased in samples]
    assert _fastest(burst, rate=rate) > 1, "the check can fail, however seldom a busy machine let it look"
    assert max(leased for _, _, leased in samples) <= capacity
    units = [(await sale.record(each)).units for each in ids]
    by_unit = sorted(range(120), key=lambda at: units[at])
    assert max(abs(place - at) for place, at in enumerate(by_unit)) <= capacity, "5: in order, as far as units show it"
    assert writer.twice == []


async def test_3_each_ticket_ends_once_though_a_controller_is_killed_in_the_middle(
    new_sale: NewSale, redis_url: str, topics_of: str, alone: None
) -> None:
    stock, crowd = 60, 150
    sale = await new_sale(
        stock, rate_per_s=100.0, validator=Validator(kind="simulated", decline_share=0.2, seed=3), per_buyer_limit=1
    )
    settings = _settings(redis_url, topics_of, batch=10)
    ends: Counter[str] = Counter()
    async with FakeWriter(topics_of, sale.id) as writer, an_admission(settings):
        killed = RunningAdmission(settings)
        ids = await sale.join(*(f"buyer-{at}" for at in range(crowd)))

        async def some_are_sold() -> bool:
            return await sale.count("CONFIRMED") >= 10

        await until(some_are_sold, within_s=60)
        await killed.kill()
        await until(_all_told(sale, ids), within_s=60)
        ends.update(await sale.states(*ids))
        assert ends["CONFIRMED"] == stock
        assert set(ends) <= {"CONFIRMED", "DECLINED", "SOLD_OUT"}
        assert len(writer.sold) == stock
        assert writer.twice == []
        assert await faults_of(sale) == []


async def test_a_controller_that_stops_leaves_its_work_to_the_other(
    new_sale: NewSale, redis_url: str, topics_of: str, alone: None
) -> None:
    sale = await new_sale(100, rate_per_s=50.0)
    settings = _settings(redis_url, topics_of)
    async with FakeWriter(topics_of, sale.id), an_admission(settings):
        stops = RunningAdmission(settings)
        ids = await sale.join(*(f"buyer-{at}" for at in range(80)))

        async def begun() -> bool:
            return await sale.count("CONFIRMED") >= 5

        await until(begun, within_s=60)
        await stops.stop()
        await until(_all_told(sale, ids), within_s=60)
    assert await sale.states(*ids) == ["CONFIRMED"] * 80


async def test_results_wait_while_postgres_is_away_and_nothing_is_told_meanwhile(
    new_sale: NewSale, redis_url: str, topics_of: str, alone: None
) -> None:
    sale = await new_sale(2)
    async with FakeWriter(topics_of, sale.id) as writer, an_admission(_settings(redis_url, topics_of)):
        writer.working.clear()
        ids = await sale.join("ada", "bob", "cy")

        async def sent_again() -> bool:
            records = [await sale.record(each) for each in ids[:2]]
            return all(record.sends >= 3 for record in records)

        await until(sent_again)
        assert await sale.states(*ids) == ["RESERVED", "RESERVED", "WAITING"]
        assert await sale.outlook() == "all_reserved"
        writer.working.set()
        await until(_all_told(sale, ids))
        assert await sale.states(*ids) == ["CONFIRMED", "CONFIRMED", "SOLD_OUT"]
        assert Counter(order.ticket_id for order in writer.orders)[ids[0]] >= 3
        assert len(writer.sold) == 2


async def test_several_sales_at_once_do_not_hold_each_other_up(
    new_sale: NewSale, redis_url: str, topics_of: str, alone: None
) -> None:
    halted = await new_sale(5, damaged=True)
    slow = await new_sale(5, rate_per_s=0.01)
    quick = [await new_sale(30) for _ in range(4)]
    await halted.raw.hset(halted.keys.meta, "fence", "another")
    async with (
        FakeWriter(topics_of, slow.id, *(sale.id for sale in quick)),
        an_admission(_settings(redis_url, topics_of)),
    ):
        await slow.join("ada", "bob", "cy")
        ids = {sale.id: await sale.join(*(f"buyer-{at}" for at in range(30))) for sale in quick}
        for sale in quick:
            await until(_all_told(sale, ids[sale.id]))
            assert await sale.states(*ids[sale.id]) == ["CONFIRMED"] * 30
        assert len(await slow.line()) >= 2


async def test_l7_a_redis_that_may_throw_keys_away_is_refused_at_the_start() -> None:
    async with servers("redis") as running:
        redis = connect(running.redis_url, name="fairline-tests")
        await redis.config_set("maxmemory-policy", "allkeys-lru")
        await redis.aclose()
        with pytest.raises(UnfitServerError, match="noeviction"):
            async with asyncio.timeout(20):
                await start(_settings(running.redis_url, NOWHERE))


async def test_l7_a_redis_without_memory_is_waited_for_and_changes_nothing() -> None:
    async with servers("redis") as running:
        redis = connect(running.redis_url, name="fairline-tests")
        sale = await SaleDriver.opened(redis, 5)
        ids = await sale.join("ada", "bob")
        lease, _ = await sale.admit()
        await redis.config_set("maxmemory", "1")
        with pytest.raises(UnavailableError, match="memory"):
            await sale.stock.reserve(lease, ids, redrive_ms=1000)
        with pytest.raises(UnavailableError, match="memory"):
            await sale.stock.decline(lease, [(ids[0], "no_member")])
        assert await faults_of(sale) == []
        await redis.config_set("maxmemory", "0")
        assert await sale.reserve(lease, *ids) == ["RESERVED"] * 2
        await redis.aclose()


async def test_nothing_to_connect_to_is_waited_for_and_a_stop_is_heard() -> None:
    running = RunningAdmission(_settings(f"redis://{NOWHERE}/0", NOWHERE, drain_s=1))
    await asyncio.wait({running.task}, timeout=0.5)
    assert not running.task.done()
    async with asyncio.timeout(30):
        await running.stop()
