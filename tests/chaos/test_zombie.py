"""A controller that was frozen for longer than its leases comes back and thinks that they are still its own."""

import asyncio
import signal
from dataclasses import replace
from typing import Any

from fairline.demo.scenario import Scenario
from fairline.states import State
from fairline.store.client import connect
from fairline.store.keys import SaleKeys
from tests.support.admission import Shop
from tests.support.stack import FullStack, eventually
from tests.support.trouble import Scene, all_ready, kill

LONGER_THAN_A_LEASE_S = 3.5  # a lease is 2.4 s where this shop is asked, a session with Kafka 1.5 s (QUICK)
LONGER_THAN_A_DECISION_S = 0.8


async def test_a_frozen_controller_wakes_up_after_its_leases_and_does_no_harm(
    stack: FullStack, queue: Scenario, shop: Shop
) -> None:
    queue = replace(queue, rate_per_s=25.0, stock=100)  # so that a controller often has somebody in hand
    async with Scene(stack, queue, over_s=2, shop_url=shop.url) as scene:
        await scene.confirmed(10)
        await freeze_with_a_lease(stack, queue)
        await asyncio.sleep(LONGER_THAN_A_LEASE_S)
        kill(stack, "admission", number=signal.SIGCONT)
        evidence = await scene.finish()
    assert len(evidence.rows) == queue.items * queue.stock
    again = [record for record in evidence.finals.redis.tickets.values() if record.tries > 1]
    assert again, "the frozen one held no lease"
    assert all(record.state in {State.CONFIRMED, State.DECLINED, State.SOLD_OUT} for record in again)
    await all_ready(stack)


async def freeze_with_a_lease(stack: FullStack, sale: Scenario) -> None:
    """Freeze a controller that has tickets in hand; one that has none is woken and frozen once more."""
    redis: Any = connect(stack.info["redis_url"], name="test", timeout_s=20)
    leases = SaleKeys(sale.sale_id, sale.skus).leases

    async def held() -> set[tuple[bytes, float]]:
        return set(await redis.zrange(leases, 0, -1, withscores=True))

    async def frozen() -> bool:
        kill(stack, "admission", number=signal.SIGSTOP)
        before = await held()
        await asyncio.sleep(LONGER_THAN_A_DECISION_S)
        if before & await held():  # the other one has decided about its own
            return True
        kill(stack, "admission", number=signal.SIGCONT)
        return False

    try:
        await eventually(frozen)
    finally:
        await redis.aclose()
