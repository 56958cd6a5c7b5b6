"""Redis is killed and may have lost data: the sale halts, everybody reads so, it is rebuilt and goes on by itself."""

from fairline.demo.scenario import Scenario
from fairline.states import State
from fairline.store.client import connect
from tests.support.admission import Shop
from tests.support.listeners import Frame, Listener
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import Scene, ask, hold, kill, release


async def test_a_sale_whose_redis_is_killed_in_the_surge_goes_on_by_itself_and_everybody_is_told_one_end(
    stack: FullStack, queue: Scenario, shop: Shop
) -> None:
    async with Scene(stack, queue, over_s=2, shop_url=shop.url, give_up_s=90) as scene:
        await scene.confirmed(10, within_s=60)
        held = max(scene.crowd.log.tickets.values(), key=lambda held: held.arrival)
        async with Listener.to(held.ws_url, held.token) as listener:
            await listener.ticket(State.WAITING)
            scene.history.fault("kill", target="redis")  # D5b: a kill loses nothing that the kernel has
            before = kill(stack, "redis")
            await eventually(lambda: [stack.pid("redis")] != before, within_s=60)
            await listener.progress(says_recovering)
            await listener.progress(lambda frame: frame["epoch"] == 1 and frame["state"] == "open")
            evidence = await scene.finish()
    assert len(evidence.rows) == queue.items * queue.stock


async def test_while_a_sale_cannot_be_rebuilt_everybody_reads_recovering_and_nothing_is_sold(
    stack: FullStack, queue: Scenario, shop: Shop
) -> None:
    async with Scene(stack, queue, over_s=2, shop_url=shop.url, give_up_s=120) as scene:
        await scene.confirmed(10, within_s=60)
        held = max(scene.crowd.log.tickets.values(), key=lambda held: held.arrival)
        await hold(stack, "postgres")  # whom the rebuild has to ask
        scene.history.fault("kill", target="redis")
        before = kill(stack, "redis")
        await eventually(lambda: [stack.pid("redis")] != before, within_s=60)
        await eventually(lambda: reads_recovering(held.status_url, held.token), within_s=60)
        asked = {each["ticket_id"] for each in shop.asked}
        await everybody_reads_recovering(scene, held.status_url, held.token)
        assert {each["ticket_id"] for each in shop.asked} == asked, "somebody was admitted"
        await release(stack, "postgres")
        evidence = await scene.finish()
    assert len(evidence.rows) == queue.items * queue.stock


async def test_d5_a_sale_whose_redis_was_emptied_sells_nothing_twice_and_keeps_every_confirmation(
    stack: FullStack, queue: Scenario, shop: Shop
) -> None:
    async with Scene(stack, queue, over_s=2, shop_url=shop.url, give_up_s=60) as scene:
        await scene.confirmed(10, within_s=60)
        told = {each.ticket_id for each in scene.crowd.log.tickets.values() if each.state == State.CONFIRMED}
        scene.history.fault("emptied", target="redis", lost="all")
        client = connect(stack.info["redis_url"], name="a-test")
        await client.flushall()
        await client.aclose()
        evidence = await scene.evidence(quiet_within_s=60)
    assert evidence.history.rests[0].rested
    broken = [str(finding) for finding in evidence.findings() if finding.verdict == "violated"]
    assert not broken, "\n".join(broken)
    assert len(evidence.rows) == queue.items * queue.stock, "nothing stays unsold"
    assert len({(row.sku, row.unit) for row in evidence.rows}) == len(evidence.rows), "nothing is sold twice"
    assert len({(row.sku, row.buyer_id) for row in evidence.rows}) == len(evidence.rows), "one each"
    assert told <= {row.ticket_id for row in evidence.rows}


def says_recovering(frame: Frame) -> bool:
    return frame["state"] == "recovering" and not frame["items"]


async def reads_recovering(status_url: str, token: str) -> bool:
    said = await ask("GET", status_url, key=token)
    return (said.status, said.code) == (503, "recovering")


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
