"""A sale that was closed long ago, from outside: everything of it is in Postgres, and any Redis says so (C2)."""

import signal
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from fairline.frames import CloseCode
from tests.support.listeners import Listener
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import QUICK, Said, all_ready, ask, kill


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[FullStack]:
    async with FullStack(environ=QUICK | {"FAIRLINE_ADMISSION_ARCHIVE_AFTER_S": "1"}) as stack:
        yield stack


class Shop:
    """An operator and buyers of one sale."""

    def __init__(self, stack: FullStack) -> None:
        self.sale_id = a_name()
        self._at, self._key = stack.info["gateway_url"], stack.info["operator_key"]
        self._dsn = stack.info["postgres_dsn"]

    async def admin(self, method: str, path: str, body: Any = None) -> Said:
        return await ask(method, f"{self._at}/admin/sales{path}", key=self._key, body=body)

    async def join(self, buyer: str) -> dict[str, Any]:
        said = await ask("POST", f"{self._at}/sales/{self.sale_id}/tickets", body={"sku": "seat", "buyer_id": buyer})
        assert said.status == 202, said
        return dict(said.body)

    async def rows(self) -> dict[str, str]:
        """Ticket -> outcome, as Postgres has them."""
        connection = await asyncpg.connect(self._dsn)
        try:
            found = await connection.fetch(
                "SELECT ticket_id, outcome FROM ticket_history WHERE sale_id = $1", self.sale_id
            )
            return {str(row["ticket_id"]): row["outcome"] for row in found}
        finally:
            await connection.close()


async def confirmed(ticket: dict[str, Any]) -> bool:
    said = await ask("GET", ticket["status_url"], key=ticket["token"])
    return bool(said.body["state"] == "CONFIRMED")


async def in_the_archive(ticket: dict[str, Any]) -> bool:
    return (await ask("GET", ticket["status_url"], key=ticket["token"])).code == "archived"


async def test_c2_a_sale_is_archived_whoever_is_killed_meanwhile_and_stays_so_whatever_redis_loses(
    stack: FullStack,
) -> None:
    shop = Shop(stack)
    made = await shop.admin(
        "POST",
        "",
        {
            "sale_id": shop.sale_id,
            "name": "Of last year",
            "items": [{"sku": "seat", "name": "Seat", "stock": 2}],
            "when_sold_out": "keep_line",
        },
    )
    assert made.status == 201, made

    async def opened() -> bool:  # asked again until Postgres has it
        return (await shop.admin("POST", f"/{shop.sale_id}/open", {})).status == 200

    await eventually(opened)
    sold = [await shop.join(buyer) for buyer in ("ann", "bob")]
    for ticket in sold:
        await eventually(partial(confirmed, ticket))
    left, waiting = await shop.join("cy"), await shop.join("dee")
    assert (await ask("DELETE", left["status_url"], key=left["token"])).status == 200
    expected = dict.fromkeys((ticket["ticket_id"] for ticket in sold), "CONFIRMED")
    assert (await shop.admin("POST", f"/{shop.sale_id}/end", {})).status == 200
    kill(stack, "admission", "order_service", number=signal.SIGKILL)

    await eventually(partial(in_the_archive, left), within_s=60)
    expected |= {left["ticket_id"]: "LEFT", waiting["ticket_id"]: "DECLINED"}
    assert await shop.rows() == expected, "all of them were there before the first was forgotten"

    async def served_no_more() -> bool:
        said = await shop.admin("GET", "")
        return shop.sale_id not in {row["sale_id"] for row in said.body["sales"]}

    await eventually(served_no_more)
    await all_ready(stack)
    before = kill(stack, "redis")
    await eventually(lambda: [stack.pid("redis")] != before)
    await all_ready(stack)
    await all_of_it_is_archived(shop, (*sold, left, waiting))
    redis = Redis.from_url(stack.info["redis_url"])
    await redis.flushall()
    await redis.aclose()
    await all_of_it_is_archived(shop, (*sold, left, waiting))
    records = await shop.admin("GET", f"/{shop.sale_id}/records")
    assert records.body["state"] == "archived"
    assert {name: number for name, number in records.body["outcomes"].items() if number} == {
        "CONFIRMED": 2,
        "LEFT": 1,
        "DECLINED": 1,
    }


async def all_of_it_is_archived(shop: Shop, tickets: Iterable[dict[str, Any]]) -> None:
    for ticket in tickets:
        await eventually(partial(in_the_archive, ticket), within_s=60)
        async with Listener.to(ticket["ws_url"], ticket["token"]) as buyer:
            assert await buyer.closed() == CloseCode.ARCHIVED
    stats = await shop.admin("GET", f"/{shop.sale_id}/stats")
    counted = {name: stats.body[name] for name in ("joined", "confirmed", "left", "declined")}
    assert counted == {"joined": 4, "confirmed": 2, "left": 1, "declined": 1}
