"""``fairline reconcile`` on a whole stack: what somebody broke in Redis is found, and mended where that is safe."""

import json
from typing import Any

import aiohttp

from fairline.demo.scenario import Scenario
from fairline.store.client import connect
from fairline.store.keys import SaleKeys
from tests.support.commands import fairline
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import QUICK, Scene

ENVIRON = QUICK | {"FAIRLINE_ADMISSION_COMPARE_EVERY_S": "1", "FAIRLINE_GATEWAY_ACKNOWLEDGE_S": "30"}


async def reconciled(stack: FullStack, sale_id: str, *options: str) -> tuple[int, Any]:
    """Exit code, and (kind, what was done) of each finding."""
    ran = await fairline("reconcile", sale_id, "--json", "--data", str(stack.folder), *options)
    found = json.loads(ran.out) if ran.out else []
    return ran.code, [(each["difference"]["kind"], each["done"]) for each in found]


async def test_4_what_was_broken_in_redis_is_found_by_name_and_mended() -> None:
    scenario = Scenario(sale_id=a_name(), buyers=30, requests=60, items=1, stock=10, decline_share=0.2, seed=7)
    async with FullStack(environ=ENVIRON) as stack:
        async with Scene(stack, scenario, over_s=1) as scene:
            await scene.finish()
        assert await reconciled(stack, scenario.sale_id) == (0, [])

        keys = SaleKeys(scenario.sale_id, scenario.skus)
        redis = connect(stack.info["redis_url"], name="fairline-tests")
        await redis.zadd(keys.returned[0], {"3": 3})  # a sold unit is for sale again
        await redis.hset(keys.held, "item-1:nobody", b"\x91\x01")  # and somebody counts as holding what nobody sold
        broken = {"slot_lost", "unit_free"}
        assert await reconciled(stack, scenario.sale_id) == (1, [(kind, "can be mended") for kind in sorted(broken)])

        async def admission_says_so() -> bool:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{stack.info['internal_urls']['admission']}/metrics") as answer,
            ):
                lines = (await answer.text()).splitlines()
            return {f'fairline_differences{{kind="{kind}",sale="{scenario.sale_id}"}} 1.0' for kind in broken} <= {
                *lines
            }

        await eventually(admission_says_so)
        mended = [(kind, "mended") for kind in sorted(broken)]
        assert await reconciled(stack, scenario.sale_id, "--repair") == (0, mended)
        assert await reconciled(stack, scenario.sale_id) == (0, [])
        assert await redis.zcard(keys.returned[0]) == 0
        await redis.aclose()

        nowhere = await fairline("reconcile", "nowhere", "--data", str(stack.folder))
        assert (nowhere.code, nowhere.err) == (1, "Redis does not know a sale nowhere.\n")


async def test_without_a_stack_it_says_which_addresses_it_needs(tmp_path: Any, monkeypatch: Any) -> None:
    for name in ("FAIRLINE_REDIS_URL", "FAIRLINE_KAFKA", "FAIRLINE_ORDER_SERVICE_URL"):
        monkeypatch.delenv(name, raising=False)
    ran = await fairline("reconcile", "spring", "--data", str(tmp_path))
    assert ran.code == 1
    assert "FAIRLINE_REDIS_URL, FAIRLINE_KAFKA, FAIRLINE_ORDER_SERVICE_URL" in ran.err
