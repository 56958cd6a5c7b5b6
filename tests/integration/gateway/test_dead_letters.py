"""Dead letters as operators reach them, and how a readmitted buyer learns of the new ticket. Postgres is played."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from fairline.ids import readmission_of
from tests.support.gateway import FIRST_KEY, Api, a_gateway
from tests.support.rebuilt import rebuilt
from tests.support.sale import SaleDriver, a_name
from tests.support.stack import eventually

ROW = {
    "kind": "order",
    "verdict": "failed",
    "reason": "CheckViolationError: of a test",
    "attempts": 3,
    "given_up_at": "2026-01-01T00:00:00Z",
    "readmitted_as": None,
    "handled_at": None,
}
ID = "orders-0-7-1f3a9c0d"


@dataclass
class Played:
    """An order service with one dead letter. ``dies`` lists the calls that are not answered."""

    letter: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    dies: list[str] = field(default_factory=list)
    refuses: tuple[int, str] | None = None

    def of(self, sale: SaleDriver | None, ticket_id: str | None) -> None:
        self.letter = {**ROW, "id": ID, "state": "open", "sale_id": sale and sale.id, "ticket_id": ticket_id}

    async def get(self, request: web.Request) -> web.Response:
        self.calls.append((request.path_qs, None))
        if request.path.endswith("/audit"):
            return web.json_response({"acts": [], "next": None})
        if request.path.endswith("/dead-letters"):
            return web.json_response({"dead_letters": [self.letter], "next": None})
        record = {"topic": "fairline.orders", "key": None, "value": "{", "value_bytes": 1, "headers": [["ce_id", "x"]]}
        return web.json_response(self.letter | record)

    async def act(self, request: web.Request) -> web.Response:
        act, body = request.match_info["act"], await request.json()
        self.calls.append((act, body))
        if self.refuses:
            status, code = self.refuses
            return web.json_response({"code": code, "state": "discarded"}, status=status)
        if act == "readmitted":
            if act in self.dies:
                self.dies.remove(act)
                return web.Response(status=503)
            self.letter |= {
                "state": "readmitted",
                "readmitted_as": body["ticket_id"],
                "handled_at": "2026-01-02T00:00:00Z",
            }
        elif act != "readmit":
            self.letter |= {"state": {"replay": "replayed", "discard": "discarded"}[act]}
        return web.json_response(self.letter)


@dataclass
class House:
    """A gateway, and the order service behind it."""

    api: Api
    played: Played

    async def act(self, act: str, *, key: str = FIRST_KEY, **body: Any) -> Any:
        return await self.api.admin("POST", f"/dead-letters/{ID}/{act}", body or None, key=key)

    async def released(self, **more: Any) -> tuple[SaleDriver, str, str]:
        """A sale, and a ticket of it whose order could not be written, with its token."""
        sale = await SaleDriver.opened(self.api.redis, 2)
        joined = (await self.api.join(sale.id, "ada", request="r1", **more)).json
        lease, _ = await sale.admit()
        await sale.reserve(lease, joined["ticket_id"])
        await sale.release(joined["ticket_id"])
        self.played.of(sale, joined["ticket_id"])
        return sale, joined["ticket_id"], joined["token"]

    async def status(self, sale: SaleDriver, ticket_id: str, token: str) -> Any:
        return await self.api.call("GET", f"/sales/{sale.id}/tickets/{ticket_id}", key=token)


@asynccontextmanager
async def an_order_service(played: Played) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/internal/{tail:.*}", played.get)
    app.router.add_post("/internal/dead-letters/{id}/{act}", played.act)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def house(redis_url: str) -> AsyncIterator[House]:
    played = Played()
    async with an_order_service(played) as url, a_gateway(redis_url, ORDER_SERVICE_URL=url) as api:
        yield House(api, played)


async def test_s2_the_token_of_a_lost_ticket_tells_of_the_readmission_of_the_one_that_answers_for_it(
    house: House,
) -> None:
    sale = await SaleDriver.opened(house.api.redis, 2)
    lost = (await house.api.join(sale.id, "ada")).json
    await rebuilt(sale, lost["ticket_id"], found=0)
    answers = (await house.api.join(sale.id, "ada")).json["ticket_id"]
    assert (await house.status(sale, lost["ticket_id"], lost["token"])).json["state"] == "WAITING"
    lease, _ = await sale.admit()
    await sale.reserve(lease, answers)
    await sale.release(answers)
    assert await sale.room.readmit(sale.id, answers) == "READMITTED"
    told = (await house.status(sale, lost["ticket_id"], lost["token"])).json
    assert (told["state"], told["readmitted_as"]["ticket_id"]) == ("RELEASED", readmission_of(sale.id, answers))


async def test_s2_a_readmitted_buyer_learns_of_the_new_ticket_by_the_token_of_the_old_one(house: House) -> None:
    sale, old, token = await house.released()
    told = (await house.status(sale, old, token)).json
    assert (told["state"], told["reason"], told["readmitted_as"]) == ("RELEASED", "not_writable", None)
    assert told["next_poll_s"] == 30.0, "there may be news of it"
    done = await house.act("readmit", reason="their card was fine")
    new = readmission_of(sale.id, old)
    assert (done.status, done.json["state"], done.json["readmitted_as"]) == (200, "readmitted", new)
    assert house.played.calls[-2:] == [
        (
            "readmit",
            {
                "operator": "first",
                "role": "admin",
                "reason": "their card was fine",
                "request_id": house.played.calls[-2][1]["request_id"],
            },
        ),
        ("readmitted", {"ticket_id": new}),
    ]
    told = (await house.status(sale, old, token)).json
    assert (told["state"], told["outcome"], told["next_poll_s"]) == ("RELEASED", "RELEASED", None)
    mine = told["readmitted_as"]
    assert mine["ticket_id"] == new
    assert mine["status_url"].endswith(new)
    assert mine["ws_url"].endswith(new)
    there = (await house.status(sale, new, mine["token"])).json
    assert (there["state"], there["position"], there["arrival"]) == ("WAITING", 1, told["arrival"])
    assert (await house.status(sale, new, token)).code == "bad_token", "each token opens one ticket"
    assert (await house.status(sale, old, mine["token"])).code == "bad_token"


async def test_s2_readmitted_twice_is_one_ticket(house: House) -> None:
    sale, _old, _token = await house.released()
    first, again = await house.act("readmit"), await house.act("readmit")
    assert first.json == again.json
    assert await sale.count("joined") == 2
    assert [call for call, _ in house.played.calls].count("readmitted") == 1


async def test_s2_a_readmission_that_broke_off_before_postgres_knew_is_finished_by_the_next(house: House) -> None:
    sale, old, token = await house.released()
    house.played.dies = ["readmitted"]
    broken = await house.act("readmit")
    assert (broken.status, broken.code) == (503, "unavailable")
    assert (await house.status(sale, old, token)).json["readmitted_as"] is not None
    done = await house.act("readmit")
    assert done.json["readmitted_as"] == readmission_of(sale.id, old)
    assert await sale.count("joined") == 2


async def test_d3_a_new_ticket_that_redis_has_lost_is_there_again_after_the_same_call(house: House) -> None:
    sale, old, token = await house.released()
    await house.act("readmit")
    mine = (await house.status(sale, old, token)).json["readmitted_as"]
    await sale.raw.hdel(sale.keys.tickets, mine["ticket_id"])
    await sale.raw.hdel(sale.keys.live, "seat:ada")
    await sale.raw.zrem(sale.keys.line[0], mine["ticket_id"])
    assert (await house.status(sale, old, token)).json["readmitted_as"] is None
    assert (await house.act("readmit")).json["readmitted_as"] == mine["ticket_id"]
    assert (await house.status(sale, mine["ticket_id"], mine["token"])).json["state"] == "WAITING"


async def test_what_was_readmitted_is_answered_so_after_the_end_too(house: House) -> None:
    sale, _old, _token = await house.released()
    done = await house.act("readmit")
    await sale.change("end")
    assert (await house.act("readmit")).json == done.json
    house.played.letter["ticket_id"] = "00000000-0000-4000-8000-000000000000"  # archived
    assert (await house.act("readmit")).status == 200


async def test_readmit_says_clearly_why_it_cannot_be(house: House) -> None:
    sale, old, token = await house.released()
    [again] = await sale.join("ada")
    assert (await house.act("readmit")).code == "has_live_ticket"
    await sale.room.leave(sale.id, again, "seat")
    await sale.sold("ada")
    assert (await house.act("readmit")).code == "already_bought"
    house.played.of(sale, again)
    assert (await house.act("readmit")).code == "not_released"
    house.played.of(sale, "00000000-0000-4000-8000-000000000000")
    assert (await house.act("readmit")).code == "ticket_archived"
    house.played.of(sale, old)
    await sale.change("end")
    assert (await house.act("readmit")).code == "sale_closed"

    async def nobody_is_readmitted_any_more() -> bool:
        return (await house.status(sale, old, token)).json["next_poll_s"] is None

    assert await eventually(nobody_is_readmitted_any_more)
    assert all(call != "readmitted" for call, _ in house.played.calls)


async def test_what_the_order_service_refuses_is_passed_on_by_its_code(house: House) -> None:
    house.played.of(None, None)
    for status, code in (
        (409, "order_failed"),
        (409, "record_too_large"),
        (409, "already_handled"),
        (404, "unknown_dead_letter"),
        (409, "no_ticket"),
    ):
        house.played.refuses = (status, code)
        reply = await house.act("replay" if code in {"order_failed", "record_too_large"} else "readmit")
        assert (reply.status, reply.code) == (status, code)
    house.played.refuses = (418, "teapot")
    assert (await house.act("discard")).code == "bad_gateway"


async def test_viewers_look_and_operators_act(house: House) -> None:
    await house.released()
    keys = {
        role: (await house.api.admin("POST", "/keys", {"name": a_name(of=role), "role": role})).json["key"]
        for role in ("viewer", "operator")
    }
    for path in ("/dead-letters", f"/dead-letters/{ID}", "/audit"):
        assert (await house.api.admin("GET", path, key=keys["viewer"])).status == 200
        assert (await house.api.call("GET", f"/admin{path}")).code == "key_required"
    for act in ("readmit", "replay", "discard"):
        assert (await house.act(act, key=keys["viewer"])).code == "not_allowed"
        assert (await house.act(act, key=keys["operator"], reason="why")).status == 200
    role = next(body["role"] for call, body in house.played.calls if call == "replay")
    assert role == "operator"


async def test_pages_and_filters_are_passed_on_and_checked(house: House) -> None:
    house.played.of(None, None)
    await house.api.admin("GET", "/dead-letters?sale_id=spring&state=open&limit=5&cursor=7")
    assert house.played.calls[-1][0] == "/internal/dead-letters?sale_id=spring&state=open&limit=5&cursor=7"
    await house.api.admin("GET", "/audit?sale_id=spring&limit=5")
    assert house.played.calls[-1][0] == "/internal/audit?sale_id=spring&limit=5"
    for path in ("/dead-letters?colour=red", "/dead-letters?limit=0", "/audit?state=open"):
        assert (await house.api.admin("GET", path)).code == "invalid_query"
    for odd in ("..", "%2e%2e", "a%20b", "a" * 301):
        reply = await house.api.call("GET", f"/admin/dead-letters/{odd}", key=FIRST_KEY, check=False)
        assert reply.status == 404, odd


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"colour": "red"}, "unknown_field"),
        ({"reason": 5}, "invalid_field"),
        ({"reason": "a\x00b"}, "invalid_field"),
        ({"reason": "a\x1b[2Jb"}, "invalid_field"),
    ],
)
async def test_a_wrong_body_is_refused_by_its_field(house: House, body: dict[str, Any], code: str) -> None:
    assert (await house.act("discard", **body)).code == code
    assert house.played.calls == []
