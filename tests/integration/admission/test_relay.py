"""The relay on a real Redis, with a Kafka in the test's hands: only what was acknowledged leaves the outbox (O1)."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import cast

import pytest
from redis.asyncio import Redis

from admission.relay import LOCK_MS, Relay
from fairline.errors import UnavailableError
from fairline.events import Fact
from fairline.runtime.metrics import Metrics
from fairline.stream.writer import EventWriter
from tests.integration.admission.conftest import NewSale
from tests.support.admission import Broker, UnsteadyRedis, admission_settings
from tests.support.sale import SaleDriver
from tests.support.stack import eventually


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def relay_of(unsteady: UnsteadyRedis, broker: Broker, metrics: Metrics) -> Callable[..., Relay]:
    def relay_of(sale: SaleDriver, **settings: object) -> Relay:
        return Relay(unsteady.client, cast("EventWriter", broker), sale.id, admission_settings(**settings), metrics)

    return relay_of


async def _with_orders(new_sale: NewSale, number: int, *, damaged: bool = False) -> tuple[SaleDriver, list[str]]:
    sale = await new_sale(number, damaged=damaged)
    await sale.relay()
    return sale, await sale.reserved(*(f"buyer-{at}" for at in range(number)))


async def _outbox(sale: SaleDriver) -> int:
    return int(await sale.redis.xlen(sale.keys.outbox))


async def test_o1_what_is_acknowledged_leaves_and_what_is_not_is_sent_again(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker, metrics: Metrics
) -> None:
    sale, ids = await _with_orders(new_sale, 6)
    relay = relay_of(sale)
    broker.acknowledges = lambda at, _: at % 2 == 0
    assert await relay.run_once() == 3
    assert await _outbox(sale) == 3
    broker.acknowledges = lambda *_: True
    assert await relay.run_once() == 3
    assert await _outbox(sale) == 0
    assert broker.orders == [*ids, ids[1], ids[3], ids[5]]
    assert metrics.registry.get_sample_value("fairline_relayed_total", {"sale": sale.id}) == 6


async def test_o1_what_nobody_acknowledged_stays_and_the_caller_is_told_to_wait(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker, metrics: Metrics
) -> None:
    sale, ids = await _with_orders(new_sale, 3)
    relay = relay_of(sale)
    broker.acknowledges = lambda *_: False
    for _ in range(2):
        with pytest.raises(UnavailableError, match="none of 3 facts"):
            await relay.run_once()
    assert await _outbox(sale) == 3
    assert metrics.registry.get_sample_value("fairline_outbox", {"sale": sale.id}) == 3
    broker.acknowledges = lambda *_: True
    assert await relay.run_once() == 3
    assert broker.orders == ids * 3


async def test_batches_are_bounded_and_in_order(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker
) -> None:
    sale, ids = await _with_orders(new_sale, 10)
    relay = relay_of(sale, relay_batch=4)
    assert [await relay.run_once() for _ in range(4)] == [4, 4, 2, 0]
    assert broker.orders == ids


async def test_a_kafka_that_takes_only_little_in_time_is_sent_less_and_more_again_when_it_is_fast(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale, ids = await _with_orders(new_sale, 40)
    relay, send, sizes = relay_of(sale, relay_batch=16), broker.send, []

    async def slowly(facts: Sequence[Fact], timeout_s: float) -> list[bool]:
        sizes.append(len(facts))
        return [False] * len(facts) if len(facts) > 5 else await send(facts, timeout_s)

    monkeypatch.setattr(broker, "send", slowly)
    while len(broker.orders) < 12:
        with contextlib.suppress(UnavailableError):
            await relay.run_once()
    assert sizes == [16, 8, 4, 8, 4, 8, 4]
    monkeypatch.setattr(broker, "send", send)
    assert [await relay.run_once() for _ in range(4)] == [8, 16, 4, 0]
    assert broker.orders == ids


async def test_o1_a_lost_answer_of_the_removal_costs_a_repeat_at_most(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker, unsteady: UnsteadyRedis
) -> None:
    sale, ids = await _with_orders(new_sale, 4)
    relay = relay_of(sale)
    unsteady.refuse("xdel")
    with pytest.raises(UnavailableError):
        await relay.run_once()
    unsteady.lose("xdel")
    with pytest.raises(UnavailableError):
        await relay.run_once()
    assert await relay.run_once() == 0
    assert broker.orders == ids * 2


async def test_o1_a_relay_that_is_killed_in_the_middle_of_a_batch_loses_nothing(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker, redis: Redis
) -> None:
    sale, ids = await _with_orders(new_sale, 4)
    broker.gate.clear()
    sending = asyncio.create_task(relay_of(sale).run_once())
    await eventually(lambda: broker.offered == 4)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    broker.gate.set()
    another = relay_of(sale)
    assert await another.run_once() == 0, "the lock of the killed one holds for a moment"
    assert 0 < await redis.pttl(sale.keys.relay) <= LOCK_MS
    await redis.delete(sale.keys.relay)  # as its expiry does
    assert await another.run_once() == 4
    assert broker.orders == ids


async def test_one_relay_works_at_a_time_and_hands_over_when_it_stops(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker
) -> None:
    sale, _ = await _with_orders(new_sale, 6)
    one, other = relay_of(sale, relay_batch=2), relay_of(sale, relay_batch=2)
    assert [await each.run_once() for each in (one, other, one)] == [2, 0, 2]
    await other.release()  # it is not its own
    assert await other.run_once() == 0
    await one.release()
    assert await other.run_once() == 2


async def test_4_a_copy_that_does_not_reach_kafka_leaves_the_outbox_to_one_that_does(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker
) -> None:
    sale, ids = await _with_orders(new_sale, 6)
    cut_off, well = relay_of(sale), relay_of(sale)
    for _ in range(2):  # each time it comes first
        broker.acknowledges = lambda *_: False
        with pytest.raises(UnavailableError):
            await cut_off.run_once()
    broker.acknowledges = lambda *_: True
    assert await well.run_once() == 6
    assert broker.orders == ids * 3


async def test_o1_two_relays_that_both_think_it_is_theirs_lose_nothing(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker, redis: Redis
) -> None:
    sale, ids = await _with_orders(new_sale, 200)
    relays = [relay_of(sale, relay_batch=7) for _ in range(2)]
    broker.acknowledges = lambda at, _: at % 3 != 0

    async def work(relay: Relay) -> None:
        while await _outbox(sale):
            await redis.delete(sale.keys.relay)
            try:
                await relay.run_once()
            except UnavailableError:
                broker.acknowledges = lambda *_: True

    await asyncio.gather(*(work(relay) for relay in relays))
    assert set(broker.orders) == set(ids)


async def test_an_idle_outbox_costs_one_call(
    new_sale: NewSale, relay_of: Callable[..., Relay], unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(1)
    await sale.relay()
    assert await relay_of(sale).run_once() == 0
    assert unsteady.calls == ["xlen"]


async def test_an_entry_that_cannot_be_read_stays_and_holds_up_nothing(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker, redis: Redis
) -> None:
    sale = await new_sale(9)
    await sale.relay()
    await redis.xadd(sale.keys.outbox, {"fact": b"\xc1 no message pack"})
    await redis.xadd(sale.keys.outbox, {"fact": b"\x81\xa4type\xaborder.of.v99"})
    await redis.xadd(sale.keys.outbox, {"something": b"else"})
    ids = await sale.reserved(*(f"buyer-{at}" for at in range(9)))
    relay = relay_of(sale, relay_batch=4)
    assert [await relay.run_once() for _ in range(6)] == [1, 4, 4, 0, 0, 0]
    assert broker.orders == ids
    assert await _outbox(sale) == 3
    assert not await redis.exists(sale.keys.relay), "another, newer copy may try"


async def test_redis_away_is_later(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker, unsteady: UnsteadyRedis
) -> None:
    sale, _ = await _with_orders(new_sale, 3)
    relay = relay_of(sale)
    unsteady.away = True
    with pytest.raises(UnavailableError):
        await relay.run_once()
    await relay.release()  # says nothing when it cannot
    unsteady.away = False
    assert await relay.run_once() == 3


async def test_o4_the_outbox_of_a_halted_sale_is_emptied_too(
    new_sale: NewSale, relay_of: Callable[..., Relay], broker: Broker
) -> None:
    sale, ids = await _with_orders(new_sale, 3, damaged=True)
    await sale.raw.hset(sale.keys.meta, "fence", "another")
    assert await relay_of(sale).run_once() == 3
    assert broker.orders == ids
