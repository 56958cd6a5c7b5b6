"""Two copies of every process serve one sale: together they are as strict as one alone."""

import signal
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest

from fairline.demo.scenario import Scenario
from loadtest.case import Case
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import QUICK, THINKS_S, Scene, a_slow_shop, all_ready, kill

SERVICES = ("gateway", "admission", "order_service", "notifier")
GATEWAYS, NOTIFIERS = ("gateway", "gateway-2"), ("notifier", "notifier-2")


@pytest.fixture(scope="module")
async def pairs() -> AsyncIterator[FullStack]:
    """Eight processes and three servers."""
    environ = QUICK | {"FAIRLINE_GATEWAY_LINGER_S": "1"}
    async with FullStack(copies=dict.fromkeys(SERVICES, 2), environ=environ) as stack:
        yield stack


@pytest.mark.parametrize(("rate_per_s", "capacity"), [(50.0, None), (None, 6)], ids=["rate", "capacity"])
async def test_a_paced_sale_is_never_faster_nor_oversold(
    pairs: FullStack, rate_per_s: float | None, capacity: int | None
) -> None:
    paced = Scenario(
        sale_id=a_name(of="pair"),
        seed=1,
        buyers=400,
        requests=2000,
        items=3,
        stock=50,
        rate_per_s=rate_per_s,
        capacity=capacity,
        name="A paced sale",
    )
    async with (
        a_slow_shop() as shop,
        Scene(pairs, paced, over_s=2, gateways=GATEWAYS, notifiers=NOTIFIERS, shop_url=shop.url) as scene,
    ):
        evidence = await scene.finish()
    assert len(evidence.rows) == paced.items * paced.stock
    assert scene.crowd.log.put_off == []
    assert len({held.ws_url.split("/")[2] for held in scene.crowd.log.tickets.values()}) == 2
    # The pace is what they waited for: as fast as it allows, and not faster.
    case = Case(evidence.history, evidence.finals)
    admitted = sorted(span[1] for life in case.lives.values() if (span := case.admission(life)))
    took_s = admitted[-1] - admitted[0]
    if rate_per_s is not None:
        assert took_s > 0.9 * len(admitted) / rate_per_s
    if capacity is not None:
        assert max(sample.in_flight for sample in evidence.history.samples) == capacity
        assert took_s > 0.9 * len(admitted) / capacity * THINKS_S


async def test_every_process_may_be_replaced_while_the_sale_runs(pairs: FullStack) -> None:
    rolling = Scenario(
        sale_id=a_name(of="rolling"),
        seed=2,
        buyers=400,
        requests=2000,
        items=2,
        stock=200,
        rate_per_s=30.0,
        name="A rolling sale",
    )
    async with Scene(pairs, rolling, over_s=8, gateways=GATEWAYS, notifiers=NOTIFIERS) as scene:
        await scene.confirmed(10)
        for names in (SERVICES, [f"{service}-2" for service in SERVICES]):  # one of each pair is always there
            before = kill(pairs, *names, number=signal.SIGTERM)
            await eventually(partial(replaced, pairs, names, before))
            await all_ready(pairs)
        evidence = await scene.finish()
    assert scene.crowd.log.put_off == [], "a buyer saw a refusal, or a connection cut"
    assert len(evidence.rows) > 100


def replaced(pairs: FullStack, names: Sequence[str], before: list[int]) -> bool:
    return not {pairs.pid(name) for name in names} & set(before)
