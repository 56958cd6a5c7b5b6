"""An order that Postgres refuses, from the click to the buyer's second ticket, on a whole stack (V4, V6, S2)."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.support.commands import fairline
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually

PATIENT = {"FAIRLINE_GATEWAY_ACKNOWLEDGE_S": "18"}  # nearly as long as the command waits

FINAL = {"CONFIRMED", "RELEASED", "DECLINED", "SOLD_OUT", "LAPSED", "LEFT"}


@dataclass
class Shop:
    """Buyers and an operator of one sale of one sku."""

    stack: FullStack
    http: aiohttp.ClientSession
    sale_id: str

    async def ok(self, *arguments: str) -> str:
        ran = await fairline(*arguments, "--data", str(self.stack.folder))
        assert ran.code == 0, (arguments, ran)
        return ran.out

    async def refused(self, *arguments: str) -> str:
        ran = await fairline(*arguments, "--data", str(self.stack.folder))
        assert ran.code == 1, (arguments, ran)
        return ran.err

    async def join(self, buyer: str) -> dict[str, Any]:
        url = f"{self.stack.info['gateway_url']}/sales/{self.sale_id}/tickets"
        async with self.http.post(url, json={"sku": "seat", "buyer_id": buyer}) as answer:
            assert answer.status == 202, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def status(self, ticket: dict[str, Any]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {ticket['token']}"}
        async with self.http.get(ticket["status_url"], headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async def outcome(self, ticket: dict[str, Any]) -> dict[str, Any]:
        async def told() -> dict[str, Any] | None:
            said = await self.status(ticket)
            return said if said["state"] in FINAL else None

        said: dict[str, Any] | None = await eventually(told, within_s=60)
        assert said is not None
        return said

    async def letters(self, state: str) -> list[dict[str, Any]]:
        return list(json.loads(await self.ok("dlt", "list", "--sale", self.sale_id, "--state", state, "--json")))

    async def admin(self, path: str) -> Any:
        headers = {"authorization": f"Bearer {self.stack.info['operator_key']}"}
        async with self.http.get(f"{self.stack.info['gateway_url']}/admin{path}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            found: Any = await answer.json()
            return found


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[FullStack]:
    async with FullStack(environ=PATIENT) as running:
        yield running


@pytest.fixture
async def shop(stack: FullStack) -> AsyncIterator[Shop]:
    async with aiohttp.ClientSession() as http:
        shop = Shop(stack, http, a_name())
        await shop.ok("sale", "create", "--id", shop.sale_id, "--name", "A sale", "--item", "seat=2")
        await shop.ok("sale", "open", shop.sale_id)
        yield shop


@asynccontextmanager
async def poison(stack: FullStack, sale_id: str, buyer: str) -> AsyncIterator[None]:
    """Postgres refuses the order of this buyer as bad data."""
    name = "poison"
    connection = await asyncpg.connect(stack.info["postgres_dsn"])
    try:
        await connection.execute(f"""
            CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE data_exception USING MESSAGE = 'poison';
            END $$
        """)
        await connection.execute(f"""
            CREATE TRIGGER {name} BEFORE INSERT ON orders FOR EACH ROW
            WHEN (NEW.sale_id = '{sale_id}' AND NEW.buyer_id = '{buyer}' AND NEW.verdict = 'confirmed')
            EXECUTE FUNCTION {name}()
        """)
        yield
        await connection.execute(f"DROP TRIGGER {name} ON orders")
        await connection.execute(f"DROP FUNCTION {name}()")
    finally:
        await connection.close()


async def test_a_poisonous_order_harms_nobody_else_and_its_buyer_gets_a_second_chance(shop: Shop) -> None:
    async with poison(shop.stack, shop.sale_id, "ada"):
        ada, bob, cleo = [await shop.join(buyer) for buyer in ("ada", "bob", "cleo")]
        said = await shop.outcome(ada)
        assert (said["state"], said["reason"], said["units"]) == ("RELEASED", "not_writable", [])
        assert said["next_poll_s"] == 30.0
        assert said["readmitted_as"] is None
        units = [(await shop.outcome(ticket))["units"] for ticket in (bob, cleo)]
        assert sorted(units) == [[1], [2]], "the unit of the refused order went to the next in line"

    [letter] = await shop.letters("open")
    assert (letter["ticket_id"], letter["verdict"]) == (ada["ticket_id"], "failed")
    shown = await shop.ok("dlt", "show", letter["id"])
    assert "poison" in shown
    assert "fairline.orders" in shown
    assert "(order_failed)" in await shop.refused("dlt", "replay", letter["id"])
    assert "(sold_out)" in await shop.refused("dlt", "readmit", letter["id"])
    assert "(unknown_dead_letter)" in await shop.refused("dlt", "discard", "orders-0-0-00000000")

    key = (await shop.ok("key", "add", a_name(of="viewer"), "--role", "viewer")).strip()
    await shop.ok("dlt", "list", "--key", key)
    for act in ("readmit", "replay", "discard"):
        assert "(not_allowed)" in await shop.refused("dlt", act, letter["id"], "--key", key)

    await shop.ok("stock", shop.sale_id, "seat", "3")
    first = await shop.ok("dlt", "readmit", letter["id"], "--reason", "their card was fine")
    assert first == await shop.ok("dlt", "readmit", letter["id"])
    new = (await shop.status(ada))["readmitted_as"]
    assert f"is readmitted as ticket {new['ticket_id']}" in first
    told = await shop.outcome(new)
    assert (told["state"], told["units"], told["arrival"]) == ("CONFIRMED", [3], said["arrival"])
    last = await shop.status(ada)
    assert (last["state"], last["next_poll_s"]) == ("RELEASED", None)
    assert await shop.letters("open") == []
    assert [row["readmitted_as"] for row in await shop.letters("readmitted")] == [new["ticket_id"]]

    counts = await shop.admin(f"/sales/{shop.sale_id}/stats")
    assert (counts["joined"], counts["confirmed"], counts["released"]) == (4, 3, 1)
    log = (await shop.admin(f"/audit?sale_id={shop.sale_id}"))["acts"]
    assert [(act["action"], act["subject"], act["reason"]) for act in log] == [
        ("dead_letter.readmit", letter["id"], "their card was fine"),
        ("dead_letter.readmit", letter["id"], ""),
    ]
    assert {act["operator"] for act in log} == {"first"}
