"""Redis is killed and may have lost data: the sale halts, everybody reads so, and nothing more is sold or told."""

import time

from fairline.demo import verdict
from fairline.demo.scenario import Scenario
from fairline.states import State
from tests.support.admission import Shop
from tests.support.listeners import Frame, Listener
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import COME_BACK, Scene, all_ready, ask, kill, missing

# What holds whatever a Redis loses (D5); the others are for the healing of the sale to bring back.
UNCONDITIONAL = (verdict.never_oversold, verdict.never_faster, verdict.one_per_buyer)


async def test_a_killed_redis_halts_the_sale_and_nothing_more_is_sold_or_told(
    stack: FullStack, queue: Scenario, shop: Shop
) -> None:
    async with Scene(stack, queue, over_s=2, shop_url=shop.url, give_up_s=8) as scene:
        await scene.confirmed(10)
        held = max(scene.crowd.log.tickets.values(), key=lambda held: held.arrival)
        async with Listener.to(held.ws_url, held.token) as listener:
            await listener.ticket(State.WAITING)
            before = kill(stack, "redis")
            await eventually(lambda: [stack.pid("redis")] != before)
            await all_ready(stack)
            await listener.progress(says_recovering)
            halted_s, asked = time.monotonic(), {each["ticket_id"] for each in shop.asked}
            await everybody_reads_recovering(scene, held.status_url, held.token)
            await scene.played()
            await listener.progress(says_recovering)
            await everybody_reads_recovering(scene, held.status_url, held.token)
            assert listener.states() == [State.WAITING]
        for name in stack.info["internal_urls"]:
            assert await missing(stack, name) == set()
        evidence = await scene.evidence()
    assert {each["ticket_id"] for each in shop.asked} == asked, "somebody was admitted"
    assert [told for each in evidence.log.tickets.values() for told in each.told if told.at_s > halted_s] == []
    refused = [each for each in evidence.log.put_off if each.at_s > halted_s]
    assert ("recovering", 503) in {(each.word, each.status) for each in refused}
    assert {(each.word, each.status) for each in evidence.log.put_off if each.status} <= COME_BACK
    rows = {row.ticket_id for row in evidence.rows}
    assert rows <= asked, "sold without having been admitted"
    told = {each.ticket_id for each in evidence.log.tickets.values() if each.state == State.CONFIRMED}
    assert len(told) >= 10
    assert told <= rows, "told and not written"
    assert [finding for check in UNCONDITIONAL if not (finding := check(evidence)).ok] == []


def says_recovering(frame: Frame) -> bool:
    return frame["state"] == "recovering" and not frame["items"]


async def everybody_reads_recovering(scene: Scene, status_url: str, token: str) -> None:
    sale_url = f"{scene.gateway_url}/sales/{scene.scenario.sale_id}"
    for said in (
        await ask("GET", sale_url),
        await ask("POST", f"{sale_url}/tickets", body={"sku": "item-1", "buyer_id": a_name(of="buyer")}),
        await ask("GET", status_url, key=token),
        await ask("DELETE", status_url, key=token),
        await scene.ask("GET", ""),
        await scene.ask("GET", "/stats"),
        await scene.ask("PATCH", "", body={"rate_per_s": 1000}),
        await scene.ask("POST", "/pause", body={}),
        await scene.ask("POST", "/end", body={}),
        await scene.ask("PUT", "/items/item-1/stock", body={"stock": 1000, "version": 1, "reason": "more"}),
    ):
        assert (said.status, said.code) == (503, "recovering")
        assert said.come_back
    listed = await ask("GET", f"{scene.gateway_url}/admin/sales", key=scene.key)
    assert {row["sale_id"]: row["state"] for row in listed.body["sales"]}[scene.scenario.sale_id] == "recovering"
