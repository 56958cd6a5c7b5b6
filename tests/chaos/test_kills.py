"""kill -9 of each service under load: the supervisor brings it back, and nobody notices but by waiting."""

import pytest

from fairline.demo.scenario import Scenario
from tests.support.admission import Shop
from tests.support.stack import FullStack, eventually
from tests.support.trouble import Scene, all_ready, kill

OVER_S = 2.0


@pytest.mark.parametrize(
    "names",
    [
        ("gateway",),
        ("notifier",),
        ("admission",),
        ("order_service",),
        ("admission", "admission-2", "order_service", "order_service-2"),
    ],
    ids="+".join,
)
async def test_a_service_that_is_killed_under_load_loses_nothing(
    stack: FullStack, rush: Scenario, shop: Shop, names: tuple[str, ...]
) -> None:
    async with Scene(stack, rush, over_s=OVER_S, shop_url=shop.url) as scene:
        await scene.answered(0.3)
        await scene.confirmed(10)
        before = kill(stack, *names)
        await eventually(lambda: [stack.pid(name) for name in names] != before)
        evidence = await scene.finish(lost="gateway" in names)
    assert len(evidence.rows) == rush.items * rush.stock
    assert scene.told()["SOLD_OUT"] > 0
    await all_ready(stack)
