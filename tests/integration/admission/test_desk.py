"""Desks and the roster: which sales are served, for how long, and what trouble does to them."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis

from admission import keeper as keepers
from admission.controller import Controller
from admission.desk import LONGEST_KEEP_MS, LONGEST_TICK_MS, Desk
from admission.keeper import Keeper
from admission.relay import Relay
from admission.roster import Roster
from admission.stock import Stock
from fairline.runtime import services
from fairline.runtime.metrics import Metrics
from fairline.sale import Validator
from fairline.store import keys as names
from fairline.store.room import Room
from fairline.store.sales import Sales
from fairline.stream.writer import EventWriter
from tests.integration.admission.conftest import NewSale
from tests.support.admission import Broker, UnsteadyRedis, a_session, a_shop, admission_settings, until, yes
from tests.support.sale import SaleDriver

SOON_S = 20.0  # far more than anything here takes


class Serving:
    """A roster that serves the sales of this test only, and its desks."""

    def __init__(self, redis: UnsteadyRedis, session: aiohttp.ClientSession, metrics: Metrics) -> None:
        self.redis = redis
        self.session = session
        self.metrics = metrics
        self.broker = Broker()
        self.stopping = asyncio.Event()
        self.only: set[str] = set()
        self.desks: dict[str, Desk] = {}
        self.forgotten: list[str] = []
        self.settings = admission_settings(breaker_rest_ms=100, breaker_failures=3)
        self.roster = Roster(self._room(), self.open_desk, self.forget)
        self.task: asyncio.Task[None] | None = None

    def _room(self) -> Room:
        serving = self

        class OnlyOurs(Room):
            async def sale_ids(self) -> list[str]:
                return [each for each in await super().sale_ids() if each in serving.only]

        return OnlyOurs(self.redis.client)

    async def open_desk(self, sale_id: str) -> Desk | None:
        room = Room(self.redis.client)
        skus = await room.skus(sale_id)
        if skus is None:
            return None
        stock = Stock(self.redis.client, sale_id, skus)
        writer = cast("EventWriter", self.broker)
        self.desks[sale_id] = Desk(
            sale_id,
            controller=Controller(stock, self.settings, self.metrics),
            keeper=Keeper(Sales(room), stock, self.settings, self.metrics),
            relay=Relay(self.redis.client, writer, sale_id, self.settings, self.metrics),
            shop=self.session,
            settings=self.settings,
            metrics=self.metrics,
        )
        return self.desks[sale_id]

    def forget(self, sale_id: str) -> None:
        self.metrics.forget_sale(sale_id)
        self.forgotten.append(sale_id)

    def serve(self, *sales: SaleDriver, drain_s: float = SOON_S) -> None:
        """Start it."""
        self.only |= {sale.id for sale in sales}
        self.task = asyncio.create_task(services.run([self.roster], drain_s=drain_s, stopping=self.stopping))

    async def stop(self) -> None:
        """Stop it; raises what it failed with."""
        self.stopping.set()
        if self.task is not None:
            async with asyncio.timeout(SOON_S):
                await self.task

    def gauge(self, name: str, sale: SaleDriver) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"sale": sale.id})


@pytest.fixture
async def serving(unsteady: UnsteadyRedis, metrics: Metrics, new_sale: NewSale) -> AsyncIterator[Serving]:
    async with a_session() as session:
        serving = Serving(unsteady, session, metrics)
        yield serving
        if serving.task is not None and not serving.task.done():
            await serving.stop()


def all_are(sale: SaleDriver, ids: list[str], state: str) -> Callable[[], Awaitable[bool]]:
    async def look() -> bool:
        return await sale.states(*ids) == [state] * len(ids)

    return look


async def test_a_sale_is_served_until_it_is_closed_and_then_no_longer(new_sale: NewSale, serving: Serving) -> None:
    sale = await new_sale(5)
    serving.serve(sale)
    ids = await sale.join("ada", "bob")
    await until(all_are(sale, ids, "RESERVED"))

    async def sent() -> bool:
        return set(serving.broker.orders) == set(ids)

    await until(sent)
    await sale.confirm(*ids)
    await sale.change("end")

    async def closed() -> bool:
        await sale.acknowledge()  # the end, and later the closing
        return serving.roster._desks[sale.id].done()

    await until(closed)
    assert (await sale.look()).meta["state"] == "closed"
    assert await sale.redis.xlen(sale.keys.outbox) == 0
    assert await serving.roster.run_once() == 0, "its desk is not opened again"
    serving.only.clear()
    await serving.roster.run_once()
    assert serving.roster._desks == {}, "nothing is kept of a sale that is registered no more"
    assert serving.forgotten == [sale.id]
    assert serving.gauge("fairline_admitted_total", sale) is None


async def test_a_new_sale_is_taken_up_and_one_that_was_only_registered_waits_for_its_script(
    new_sale: NewSale, serving: Serving, redis: Redis
) -> None:
    first = await new_sale(5)
    crashed = SaleDriver(redis, {"seat": 5})
    serving.serve(first, crashed)
    await redis.sadd(names.SALES, crashed.id)  # as far as a create came that crashed

    async def first_is_served() -> bool:
        return first.id in serving.desks

    await until(first_is_served)
    await serving.roster.run_once()
    assert crashed.id not in serving.desks
    await crashed.create()

    async def both_are_served() -> bool:
        return crashed.id in serving.desks

    await until(both_are_served)
    await serving.stop()
    await crashed.remove()


async def test_a_paused_sale_admits_nobody_and_places_are_kept(new_sale: NewSale, serving: Serving) -> None:
    sale = await new_sale(5)
    await sale.change("pause")
    ids = await sale.join("ada", "bob")
    serving.serve(sale)

    async def asked_often() -> bool:
        return serving.redis.calls.count("admit") >= 3

    await until(asked_often)
    assert await sale.line() == ids
    assert [(await sale.ticket(each)).position for each in ids] == [1, 2]
    late = await sale.join("cy")
    await sale.change("resume")
    await until(all_are(sale, ids + late, "RESERVED"))
    assert {(await sale.record(each)).units for each in ids} == {(1,), (2,)}


async def test_a_changed_validator_acts(new_sale: NewSale, serving: Serving) -> None:
    sale = await new_sale(9)
    serving.serve(sale)
    first = await sale.join("ada")
    await until(all_are(sale, first, "RESERVED"))
    await sale.patch(validator=Validator(kind="simulated", decline_share=1.0))

    async def taken_up() -> bool:
        return serving.desks[sale.id]._validator == Validator(kind="simulated", decline_share=1.0)

    await until(taken_up)
    second = await sale.join("bob")
    await until(all_are(sale, second, "DECLINED"))


async def test_a_changed_rate_and_capacity_act(new_sale: NewSale, serving: Serving) -> None:
    sale = await new_sale(50, rate_per_s=0.001)
    serving.serve(sale)
    ids = await sale.join(*(f"buyer-{at}" for at in range(20)))

    async def tried() -> bool:
        return serving.redis.calls.count("admit") >= 5

    await until(tried)
    assert len(await sale.line()) >= 19
    await sale.patch(rate_per_s=None)
    await until(all_are(sale, ids, "RESERVED"))


async def test_what_the_operator_changes_is_looked_at_within_a_second() -> None:
    assert keepers.LOOK_S + LONGEST_KEEP_MS / 1000 + LONGEST_TICK_MS / 1000 <= 1.0


async def test_d1_a_halted_sale_says_so_and_goes_on_when_it_is_healed(new_sale: NewSale, serving: Serving) -> None:
    sale, other = await new_sale(5), await new_sale(5)
    serving.serve(sale, other)

    async def is_halted() -> bool:
        return serving.gauge("fairline_sale_recovering", sale) == 1

    async def is_served() -> bool:
        return serving.gauge("fairline_sale_recovering", sale) == 0

    await until(is_served)
    fence = await sale.raw.hget(sale.keys.meta, "fence")
    await sale.raw.hset(sale.keys.meta, "fence", "another")
    await until(is_halted)
    assert serving.gauge("fairline_servable", sale) == 0, "the alarm is of the halt, not of the line"
    unharmed = await other.join("bob")
    await until(all_are(other, unharmed, "RESERVED"))
    await sale.raw.hset(sale.keys.meta, "fence", fence)
    ids = await sale.join("ada")
    await until(all_are(sale, ids, "RESERVED"))
    await until(is_served)


async def test_redis_and_kafka_away_are_waited_for(new_sale: NewSale, serving: Serving) -> None:
    sale = await new_sale(9)
    serving.broker.acknowledges = lambda *_: False
    serving.serve(sale)
    ids = await sale.join("ada")
    await until(all_are(sale, ids, "RESERVED"))
    serving.redis.away = True
    more = await sale.join("bob")
    calls = len(serving.redis.calls)

    async def tried() -> bool:
        return len(serving.redis.calls) > calls + 5

    await until(tried)
    serving.redis.away = False
    await until(all_are(sale, ids + more, "RESERVED"))
    serving.broker.acknowledges = lambda *_: True

    async def sent() -> bool:
        return set(serving.broker.orders) == {*ids, *more} and await sale.redis.xlen(sale.keys.outbox) == 0

    await until(sent)


async def test_kafka_away_is_not_asked_again_and_again(new_sale: NewSale, serving: Serving) -> None:
    sale = await new_sale(9)
    asked = 0

    def refuse(*_: object) -> bool:
        nonlocal asked
        asked += 1
        return False

    serving.broker.acknowledges = refuse
    await sale.relay()
    await sale.reserved("ada")
    serving.serve(sale)

    async def tried() -> bool:
        return asked >= 3

    await until(tried)
    before, ticks = asked, serving.redis.calls.count("admit")

    async def many_ticks_later() -> bool:
        return serving.redis.calls.count("admit") > ticks + 10

    await until(many_ticks_later)
    assert asked <= before + 4


async def test_an_unexpected_error_stops_the_process_and_names_it(
    new_sale: NewSale, serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale, other = await new_sale(5), await new_sale(5)
    serving.serve(sale, other)

    async def served() -> bool:
        return len(serving.desks) == 2

    await until(served)

    async def break_down() -> int:
        raise LookupError("oops")

    monkeypatch.setattr(serving.desks[sale.id]._keeper, "run_once", break_down)
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(SOON_S):
            await cast("asyncio.Task[None]", serving.task)
    assert raised.group_contains(LookupError, match="oops")
    assert all(task.done() for task in serving.roster._desks.values())


async def test_a_stop_lets_what_is_in_hand_be_decided(new_sale: NewSale, serving: Serving) -> None:
    async with a_shop() as shop:
        gate = asyncio.Event()

        async def answer(request: web.Request) -> web.StreamResponse:
            await gate.wait()
            return await yes(request)

        shop.answer = answer
        sale = await new_sale(5, validator=Validator(kind="http", url=shop.url, timeout_ms=60_000))
        ids = await sale.join("ada", "bob")
        serving.serve(sale)

        async def asked() -> bool:
            return len(shop.asked) == 2

        await until(asked)
        serving.stopping.set()

        async def takes_nothing_new() -> bool:
            return not any(task.get_name() == f"{sale.id} Desk._admit" for task in asyncio.all_tasks())

        await until(takes_nothing_new)
        late = await sale.join("cy")
        gate.set()
        await serving.stop()
        assert await sale.states(*ids, *late) == ["RESERVED", "RESERVED", "WAITING"]
        assert not await sale.redis.exists(sale.keys.relay), "another copy relays at once"


async def test_a_stop_gives_up_after_its_time_and_leaves_no_task(new_sale: NewSale, serving: Serving) -> None:
    async with a_shop() as shop:

        async def never(_: web.Request) -> web.StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

        shop.answer = never
        sale = await new_sale(5, validator=Validator(kind="http", url=shop.url, timeout_ms=60_000))
        ids = await sale.join("ada")
        serving.serve(sale, drain_s=0.1)

        async def asked() -> bool:
            return bool(shop.asked)

        await until(asked)
        await serving.stop()
        ours = re.compile(rf"decide|desk|{sale.id}|Roster")
        assert [task.get_name() for task in asyncio.all_tasks() if ours.search(task.get_name())] == []
        assert await sale.states(*ids) == ["ADMITTED"]


async def test_l5_a_failing_shop_is_left_alone_costs_nobody_a_try_and_is_asked_again(
    new_sale: NewSale, serving: Serving
) -> None:
    async with a_shop() as shop:

        async def fail(_: web.Request) -> web.StreamResponse:
            return web.Response(status=503)

        shop.answer = fail
        sale = await new_sale(60, validator=Validator(kind="http", url=shop.url))
        ids = await sale.join(*(f"buyer-{at}" for at in range(60)))
        serving.serve(sale)

        async def rested_and_tried_again() -> bool:
            return len(shop.asked) >= 64

        await until(rested_and_tried_again)
        assert await sale.count("admitted_total") <= len(shop.asked) + 60, "after a rest one is admitted, not a batch"
        shop.answer = yes
        await until(all_are(sale, ids, "RESERVED"))
        assert serving.gauge("fairline_breaker_open", sale) == 0
        assert {(await sale.record(each)).tries for each in ids} == {1}


async def refuse(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=500)


@pytest.mark.parametrize("capacity", [None, 1])
async def test_2_a_ticket_that_the_shop_cannot_answer_lapses_and_the_line_goes_on(
    new_sale: NewSale, serving: Serving, capacity: int | None
) -> None:
    async with a_shop() as shop:
        serving.settings = admission_settings(breaker_rest_ms=100, breaker_failures=1, lease_ms=600, margin_ms=100)

        async def answer(request: web.Request) -> web.StreamResponse:
            asked = await request.json()
            return await (refuse if asked["buyer_id"] == "poison" else yes)(request)

        shop.answer = answer
        validator = Validator(kind="http", url=shop.url, timeout_ms=500)
        sale = await new_sale(9, validator=validator, capacity=capacity)
        [poison] = await sale.join("poison")
        serving.serve(sale)
        await until(lambda: left_alone(serving, sale))
        others = await sale.join("ada", "bob", "cy")
        await until(all_are(sale, others, "RESERVED"), within_s=60)
        await until(all_are(sale, [poison], "LAPSED"), within_s=60)


async def test_l5_while_the_shop_is_away_nobody_spends_a_try_on_finding_out(
    new_sale: NewSale, serving: Serving
) -> None:
    async with a_shop() as shop:
        serving.settings = admission_settings(breaker_rest_ms=100, breaker_failures=1)
        shop.answer = refuse
        sale = await new_sale(9, validator=Validator(kind="http", url=shop.url))
        ids = await sale.join("ada", "bob", "cy")
        serving.serve(sale)

        async def probed_often() -> bool:
            return len(shop.asked) > 12  # four times as many as one ticket has tries

        await until(probed_often)
        assert max([(await sale.record(each)).tries for each in ids]) <= 1
        shop.answer = yes
        await until(all_are(sale, ids, "RESERVED"))
        assert {(await sale.record(each)).tries for each in ids} == {1}


async def test_no_more_questions_are_open_than_the_shop_is_to_have(new_sale: NewSale, serving: Serving) -> None:
    async with a_shop() as shop:
        serving.settings = admission_settings(validator_connections=7)

        async def answer(request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(0.005)  # a shop takes its time
            return await yes(request)

        shop.answer = answer
        sale = await new_sale(100, validator=Validator(kind="http", url=shop.url))
        ids = await sale.join(*(f"buyer-{at}" for at in range(100)))
        serving.serve(sale)
        await until(all_are(sale, ids, "RESERVED"))
        assert 1 < shop.most_at_once <= 7


async def left_alone(serving: Serving, sale: SaleDriver) -> bool:
    return serving.gauge("fairline_breaker_open", sale) == 1


async def test_an_http_validator_without_an_address_admits_nobody_for_good(new_sale: NewSale, serving: Serving) -> None:
    sale = await new_sale(5, validator=Validator(kind="http"))
    ids = await sale.join("ada", "bob", "cy", "dee")
    serving.serve(sale)
    await until(lambda: left_alone(serving, sale))
    assert await sale.count("RESERVED") == 0
    assert set(await sale.states(*ids)) <= {"WAITING", "ADMITTED"}


async def test_an_idle_sale_costs_redis_little(new_sale: NewSale, serving: Serving) -> None:
    sale = await new_sale(5)
    serving.serve(sale)

    async def idle() -> bool:
        return serving.redis.calls.count("reap") > 12  # the rests have grown to their longest

    await until(idle)
    clock = asyncio.get_running_loop().time
    calls, begun = len(serving.redis.calls), clock()

    async def a_while() -> bool:
        return clock() > begun + 2

    await until(a_while)
    assert (len(serving.redis.calls) - calls) / (clock() - begun) < 60
