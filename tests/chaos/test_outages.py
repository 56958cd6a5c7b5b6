"""A server is away for ten seconds in the middle of a sale: clear refusals meanwhile, then all goes on by itself."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import asyncpg
import pytest

from fairline.demo.scenario import Scenario
from fairline.states import State
from tests.support.listeners import Listener
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import Said, Scene, all_ready, ask, hold, kill, missing, release

HELD_S = 10.0
OVER_S = 8.0  # the crowd comes before, while and after the server is away
AWAY = {"kafka": {"admission", "admission-2", "order_service"}, "postgres": {"order_service", "order_service-2"}}


@asynccontextmanager
async def away(stack: FullStack, name: str) -> AsyncIterator[datetime]:
    """Kill it, hold it down for ten seconds in all, and bring it back; since when it is away."""
    began = time.monotonic()
    kill(stack, name)
    await hold(stack, name)
    yield datetime.now(UTC)
    await asyncio.sleep(max(0.0, began + HELD_S - time.monotonic()))
    await release(stack, name)


async def opened(scene: Scene, sale_id: str) -> Said:
    """Create another sale and open it, which needs Postgres to know it."""
    url = f"{scene.gateway_url}/admin/sales"
    sale = {"sale_id": sale_id, "name": "Another", "items": [{"sku": "lamp", "name": "A lamp", "stock": 1}]}
    assert (await ask("POST", url, key=scene.key, body=sale)).status in {200, 201}
    return await ask("POST", f"{url}/{sale_id}/open", key=scene.key)


async def is_open(scene: Scene, sale_id: str) -> bool:
    return (await opened(scene, sale_id)).status == 200


@pytest.mark.parametrize("name", ["kafka", "postgres"])
async def test_orders_wait_for_a_server_that_is_away(stack: FullStack, queue: Scenario, name: str) -> None:
    another = a_name(of="another")
    async with Scene(stack, queue, over_s=OVER_S) as scene:
        await scene.confirmed(10)
        async with away(stack, name) as since:
            for process in AWAY[name]:
                await eventually(partial(lacks, stack, process, name))
            assert await missing(stack, "gateway") == set()
            assert await missing(stack, "notifier") == set()
            said = await opened(scene, another)
            assert (said.status, said.code) == (503, "not_acknowledged")
            assert said.retry_after is not None
            if name == "postgres":
                assert (await scene.ask("GET", "/history")).come_back
            # Places are given out, tickets admitted and units taken.
            await eventually(lambda: scene.told()[State.RESERVED] > 0)
            await scene.answered(0.9)
            confirmed = [each.ticket_id for each in scene.crowd.log.tickets.values() if each.state == State.CONFIRMED]
            assert (await opened(scene, another)).code == "not_acknowledged"
        evidence = await scene.finish()
        await eventually(partial(is_open, scene, another))
    assert len(evidence.rows) == queue.items * queue.stock
    assert await decided(stack, confirmed, before=since) == len(confirmed) >= 10, "told of what was decided, no more"
    assert scene.crowd.log.put_off == []  # no buyer noticed
    await all_ready(stack)


async def decided(stack: FullStack, ticket_ids: list[str], *, before: datetime) -> int:
    """How many of these Postgres had written by then."""
    connection = await asyncpg.connect(stack.info["postgres_dsn"])
    try:
        number = "SELECT count(*) FROM orders WHERE ticket_id = ANY($1) AND decided_at < $2"
        return int(await connection.fetchval(number, ticket_ids, before))
    finally:
        await connection.close()


async def lacks(stack: FullStack, process: str, name: str) -> bool:
    return name in await missing(stack, process)


async def test_a_frozen_redis_is_told_at_once_and_all_goes_on_when_it_is_back(
    stack: FullStack, queue: Scenario
) -> None:
    async with Scene(stack, queue, over_s=OVER_S) as scene:
        await scene.confirmed(10)
        held = max(scene.crowd.log.tickets.values(), key=lambda held: held.arrival)
        async with Listener.to(held.ws_url, held.token) as listener:
            await listener.ticket(State.WAITING)  # and ten seconds away from its end, for a machine that is busy
            began = time.monotonic()
            kill(stack, "redis", number=signal.SIGSTOP)
            for said in await asyncio.gather(
                ask("GET", held.status_url, key=held.token),
                scene.ask("GET", ""),
                scene.ask("GET", "/stats"),
                # What Redis finds when it wakes up it does, so nothing is asked here that would change the sale.
                scene.ask("PATCH", "", body={"rate_per_s": queue.rate_per_s}),
            ):
                assert said.come_back, said
            for process in ("gateway", "admission", "notifier"):
                await eventually(partial(lacks, stack, process, "redis"))
            assert await missing(stack, "order_service") == set()
            await listener.progress(lambda frame: frame["state"] == "recovering" and not frame["items"])
            await asyncio.sleep(max(0.0, began + HELD_S - time.monotonic()))
            kill(stack, "redis", number=signal.SIGCONT)
            await listener.progress(lambda frame: frame["state"] == "open")
        evidence = await scene.finish()
    assert scene.crowd.log.put_off, "nobody noticed"
    assert len(evidence.rows) == queue.items * queue.stock
    await all_ready(stack)
