"""A controller that was frozen for longer than its leases comes back and thinks that they are still its own."""

import asyncio
import signal

from fairline.demo.scenario import Scenario
from fairline.states import State
from tests.support.admission import Shop
from tests.support.stack import FullStack
from tests.support.trouble import Scene, all_ready, kill

LONGER_THAN_A_LEASE_S = 3.5  # a lease is 2.4 s where this shop is asked, a session with Kafka 1.5 s (QUICK)


async def test_a_frozen_controller_wakes_up_after_its_leases_and_does_no_harm(
    stack: FullStack, rush: Scenario, shop: Shop
) -> None:
    async with Scene(stack, rush, over_s=2, shop_url=shop.url) as scene:
        await scene.confirmed(10)
        kill(stack, "admission", number=signal.SIGSTOP)
        await asyncio.sleep(LONGER_THAN_A_LEASE_S)
        kill(stack, "admission", number=signal.SIGCONT)
        evidence = await scene.finish()
    assert len(evidence.rows) == rush.items * rush.stock
    again = [record for record in evidence.finals.redis.tickets.values() if record.tries > 1]
    assert again, "the frozen one held no lease"
    assert all(record.state in {State.CONFIRMED, State.DECLINED, State.SOLD_OUT} for record in again)
    await all_ready(stack)
