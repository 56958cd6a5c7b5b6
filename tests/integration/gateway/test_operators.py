"""What operators do: sales from draft to end, changes while they run, stock, counts, keys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from fairline import clock
from fairline.states import State
from gateway import records
from gateway.problems import KINDS, Problem
from gateway.records import Records
from tests.support.gateway import FIRST_KEY, Api, a_gateway, acknowledging
from tests.support.sale import SaleDriver, a_name
from tests.support.stack import eventually


def a_sale(**more: Any) -> dict[str, Any]:
    items = [{"sku": "seat", "name": "Seat", "stock": 5}, {"sku": "box", "name": "Box", "stock": 2}]
    return {"sale_id": a_name(), "name": "A sale", "items": items} | more


async def key_of(api: Api, role: str) -> str:
    reply = await api.admin("POST", "/keys", {"name": a_name(of=role), "role": role})
    assert reply.status == 201
    return str(reply.json["key"])


async def test_a_sale_is_created_once_and_read_back(api: Api) -> None:
    wanted = a_sale(rate_per_s=2.5, capacity=10, message="Hello", opens_at="2030-01-01T12:00:00+02:00")
    made = await api.admin("POST", "/sales", wanted)
    assert (made.status, made.json["state"], made.json["acknowledged"]) == (201, "draft", False)
    assert made.json["opens_at"] == "2030-01-01T10:00:00Z"
    assert [item["stock"] for item in made.json["items"]] == [5, 2]
    again = await api.admin("POST", "/sales", wanted)
    assert again.status == 200
    for other in ({"name": "Another"}, {"rate_per_s": 2.0}, {"items": wanted["items"][:1]}):
        reply = await api.admin("POST", "/sales", wanted | other)
        assert (reply.status, reply.code) == (409, "sale_exists")
    read = await api.admin("GET", f"/sales/{wanted['sale_id']}")
    assert {**read.json, "server_time": ""} == {**made.json, "server_time": ""}


async def test_a_sale_that_would_end_at_once_is_not_made_and_one_that_is_over_is_still_the_same(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, late = a_sale(ends_at="2030-01-01T12:00:00Z"), a_sale(ends_at="2030-01-01T12:00:00Z")
    assert (await api.admin("POST", "/sales", made)).status == 201
    after = clock.to_ms(datetime(2030, 1, 1, 12, tzinfo=UTC))
    monkeypatch.setattr(clock, "now_ms", lambda: after)
    assert (await api.admin("POST", "/sales", made)).status == 200
    reply = await api.admin("POST", "/sales", late)
    assert (reply.status, reply.code, reply.json["field"]) == (400, "invalid_field", "ends_at")
    assert (await api.admin("GET", f"/sales/{late['sale_id']}")).code == "unknown_sale"


@pytest.mark.parametrize(
    ("more", "code", "field"),
    [
        ({"sale_id": "Not An Id"}, "invalid_field", "sale_id"),
        ({"sale_id": ""}, "invalid_field", "sale_id"),
        ({"sale_id": "x" * 10_000}, "invalid_field", "sale_id"),
        ({"name": ""}, "invalid_field", "name"),
        ({"name": "a\x00b"}, "invalid_field", "name"),
        ({"items": []}, "invalid_field", "items"),
        ({"items": [{"sku": "a", "name": "A", "stock": -1}]}, "invalid_field", "items[0].stock"),
        ({"items": [{"sku": "a", "name": "A", "stock": 10**7}]}, "invalid_field", "items[0].stock"),
        ({"items": [{"sku": "a", "name": "A\x1b[2J", "stock": 1}]}, "invalid_field", "items[0].name"),
        ({"items": [{"sku": "a", "name": "A", "stock": 1}] * 2}, "invalid_field", "items"),
        ({"items": [{"sku": "a", "name": "A", "stock": 1, "price": 1}]}, "unknown_field", "items[0].price"),
        ({"per_buyer_limit": 0}, "invalid_field", "per_buyer_limit"),
        ({"per_buyer_limit": 101}, "invalid_field", "per_buyer_limit"),
        ({"rate_per_s": -1}, "invalid_field", "rate_per_s"),
        ({"rate_per_s": 0}, "invalid_field", "rate_per_s"),
        ({"rate_per_s": "5"}, "invalid_field", "rate_per_s"),
        ({"capacity": 0}, "invalid_field", "capacity"),
        ({"opens_at": "2030-01-01T12:00:00"}, "invalid_field", "opens_at"),
        ({"opens_at": "tomorrow"}, "invalid_field", "opens_at"),
        ({"opens_at": "0001-01-01T00:00:00+14:00"}, "invalid_field", "opens_at"),
        ({"opens_at": "2030-01-02T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"}, "invalid_field", "ends_at"),
        ({"validator": {"kind": "magic"}}, "invalid_field", "validator.kind"),
        ({"validator": {"kind": "http"}}, "invalid_field", "validator.url"),
        ({"validator": {"kind": "simulated", "decline_share": 2}}, "invalid_field", "validator.decline_share"),
        ({"when_sold_out": "party"}, "invalid_field", "when_sold_out"),
        ({"state": "open"}, "unknown_field", "state"),
    ],
)
async def test_a_wrong_definition_is_refused_by_its_field(
    api: Api, more: dict[str, Any], code: str, field: str
) -> None:
    wanted = a_sale(**more)
    reply = await api.admin("POST", "/sales", wanted)
    assert (reply.status, reply.code, reply.json["field"]) == (400, code, field)
    if "sale_id" not in more:
        assert (await api.admin("GET", f"/sales/{wanted['sale_id']}")).status == 404


async def test_a_huge_definition_is_refused(api: Api) -> None:
    reply = await api.admin("POST", "/sales", a_sale(message="x" * 70_000))
    assert (reply.status, reply.code) == (413, "body_too_large")


async def test_a_sale_opens_pauses_resumes_and_ends_and_each_again_is_the_same(api: Api) -> None:
    sale_id = await api.sale(opened=False)
    for action, state in (("open", "open"), ("pause", "paused"), ("resume", "open"), ("end", "ended")):
        first = await api.admin("POST", f"/sales/{sale_id}/{action}", {"reason": "because"})
        again = await api.call("POST", f"/admin/sales/{sale_id}/{action}", key=FIRST_KEY)
        assert (first.status, first.json["state"]) == (200, state)
        assert (again.status, again.json["version"]) == (200, first.json["version"])


async def test_a_move_that_there_is_not_changes_nothing(api: Api) -> None:
    sale_id = await api.sale(opened=False)
    for action in ("pause",):
        reply = await api.admin("POST", f"/sales/{sale_id}/{action}")
        assert (reply.status, reply.code, reply.json["state"]) == (409, "illegal_move", "draft")
    await api.admin("POST", f"/sales/{sale_id}/end")
    for action in ("open", "pause", "resume"):
        reply = await api.admin("POST", f"/sales/{sale_id}/{action}")
        assert (reply.status, reply.code, reply.json["state"]) == (409, "illegal_move", "ended")


async def test_a_sale_does_not_open_before_postgres_knows_it(redis_url: str) -> None:
    async with a_gateway(redis_url, GATEWAY_ACKNOWLEDGE_S="0.2") as api:
        wanted = a_sale()
        await api.admin("POST", "/sales", wanted)
        path = f"/sales/{wanted['sale_id']}/open"
        reply = await api.admin("POST", path)
        assert (reply.status, reply.code) == (503, "not_acknowledged")
        assert int(reply.headers["retry-after"]) >= 1
        assert (await api.admin("GET", f"/sales/{wanted['sale_id']}")).json["state"] == "draft"
        await api.acknowledge(wanted["sale_id"])
        assert (await api.admin("POST", path)).status == 200


async def test_opening_waits_for_postgres(api: Api) -> None:
    wanted = a_sale()
    await api.admin("POST", "/sales", wanted)
    opening = asyncio.create_task(api.admin("POST", f"/sales/{wanted['sale_id']}/open"))
    async with acknowledging(api.redis, wanted["sale_id"]):
        assert (await opening).json["state"] == "open"


async def test_a_patch_sets_what_it_names_clears_with_null_and_leaves_the_rest(api: Api) -> None:
    sale_id = await api.sale(rate_per_s=5.0, message="Hello", ends_at="2031-01-01T00:00:00Z")
    patched = await api.admin("PATCH", f"/sales/{sale_id}", {"rate_per_s": 7, "message": None, "capacity": 3})
    assert patched.status == 200
    assert (patched.json["rate_per_s"], patched.json["message"], patched.json["capacity"]) == (7.0, None, 3)
    assert patched.json["ends_at"] == "2031-01-01T00:00:00Z"
    nothing = await api.admin("PATCH", f"/sales/{sale_id}", {})
    assert (nothing.status, nothing.json["version"]) == (200, patched.json["version"])
    again = await api.admin("PATCH", f"/sales/{sale_id}", {"rate_per_s": None, "capacity": None, "name": "New"})
    assert (again.json["rate_per_s"], again.json["capacity"], again.json["name"]) == (None, None, "New")
    validator = {"kind": "simulated", "decline_share": 0.5, "seed": 7}
    assert (await api.admin("PATCH", f"/sales/{sale_id}", {"validator": validator})).json["validator"]["seed"] == 7


@pytest.mark.parametrize(
    ("patch", "code", "field"),
    [
        ({"sale_id": "x"}, "immutable_field", "sale_id"),
        ({"items": []}, "immutable_field", "items"),
        ({"per_buyer_limit": 5}, "immutable_field", "per_buyer_limit"),
        ({"state": "open"}, "immutable_field", "state"),
        ({"colour": "red"}, "unknown_field", "colour"),
        ({"rate_per_s": -1}, "invalid_field", "rate_per_s"),
        ({"rate_per_s": 0}, "invalid_field", "rate_per_s"),
        ({"name": None}, "invalid_field", "name"),
        ({"validator": {"kind": "http"}}, "invalid_field", "validator.url"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, "invalid_field", "ends_at"),
        ({"reason": "a\x00"}, "invalid_field", "reason"),
    ],
)
async def test_a_wrong_patch_is_refused_by_its_field_and_changes_nothing(
    api: Api, patch: dict[str, Any], code: str, field: str
) -> None:
    sale_id = await api.sale(opens_at="2030-01-01T00:00:00Z")
    before = (await api.admin("GET", f"/sales/{sale_id}")).json["version"]
    reply = await api.admin("PATCH", f"/sales/{sale_id}", patch)
    assert (reply.status, reply.code, reply.json["field"]) == (400, code, field)
    assert (await api.admin("GET", f"/sales/{sale_id}")).json["version"] == before


async def test_after_the_end_nothing_is_changed(api: Api) -> None:
    sale_id = await api.sale()
    await api.admin("POST", f"/sales/{sale_id}/end")
    reply = await api.admin("PATCH", f"/sales/{sale_id}", {"message": "too late"})
    assert (reply.status, reply.code) == (409, "sale_closed")
    reply = await api.admin("PUT", f"/sales/{sale_id}/items/seat/stock", {"stock": 9, "version": 1})
    assert (reply.status, reply.code) == (409, "sale_closed")


async def test_stock_is_set_absolutely_once_postgres_has_it(api: Api) -> None:
    sale = await SaleDriver.opened(api.redis, 3)
    path = f"/sales/{sale.id}/items/seat/stock"
    async with acknowledging(api.redis, sale.id):
        for _ in range(2):
            reply = await api.admin("PUT", path, {"stock": 5, "version": 1, "reason": "a pallet came"})
            assert (reply.status, reply.json["stock"], reply.json["version"]) == (200, 5, 1)
    item = (await api.admin("GET", f"/sales/{sale.id}")).json["items"][0]
    assert (item["stock"], item["free"], item["version"]) == (5, 5, 1)
    stale = await api.admin("PUT", path, {"stock": 9, "version": 1})
    assert (stale.status, stale.code, stale.json["version"]) == (409, "stale_version", 1)
    await sale.sold("anna", "bert")
    low = await api.admin("PUT", path, {"stock": 1, "version": 2})
    assert (low.status, low.code, low.json["lowest"]) == (409, "stock_in_use", 2)


async def test_stock_that_postgres_does_not_acknowledge_says_so_and_may_be_sent_again(redis_url: str) -> None:
    async with a_gateway(redis_url, GATEWAY_ACKNOWLEDGE_S="0.2") as api:
        sale_id = await api.sale()
        path, wanted = f"/sales/{sale_id}/items/seat/stock", {"stock": 9, "version": 1}
        reply = await api.admin("PUT", path, wanted)
        assert (reply.status, reply.code) == (503, "not_acknowledged")
        await api.acknowledge(sale_id)
        assert (await api.admin("PUT", path, wanted)).status == 200


@pytest.mark.parametrize(
    "wanted",
    [
        {"stock": -1, "version": 1},
        {"stock": 1, "version": 0},
        {"stock": 1, "version": 10**16},
        {"stock": 1.5, "version": 1},
        {"stock": 1},
    ],
)
async def test_a_wrong_stock_is_refused(api: Api, wanted: dict[str, Any]) -> None:
    reply = await api.admin("PUT", f"/sales/{await api.sale()}/items/seat/stock", wanted)
    assert (reply.status, reply.code) in {(400, "invalid_field"), (400, "missing_field")}


async def test_counts_add_up_while_tickets_move(api: Api) -> None:
    sale = await SaleDriver.opened(api.redis, {"seat": 2, "box": 2}, per_buyer_limit=2)
    for number in range(6):
        await api.join(sale.id, f"buyer-{number}", sku="seat" if number % 2 else "box")
    lease, grant = await sale.admit(2)
    await sale.reserve(lease, grant.ids[0])
    await sale.decline(lease, grant.ids[1], reason="payment_declined")
    counts = (await api.admin("GET", f"/sales/{sale.id}/stats")).json
    states = [state.lower() for state in State]
    for each in (counts, *counts["items"]):
        assert each["joined"] == sum(each[state] for state in states)
    assert (counts["joined"], counts["waiting"], counts["reserved"], counts["declined"]) == (6, 4, 1, 1)
    assert counts["declined_by_reason"] == {"payment_declined": 1}
    assert (counts["asked"], counts["admitted_total"], counts["refused"]) == (6, 2, {})
    assert [item["sku"] for item in counts["items"]] == ["seat", "box"]


async def test_sales_are_listed_in_pages(api: Api) -> None:
    start = a_name()
    ids = [f"{start}-{number}" for number in range(5)]
    for sale_id in ids:
        await api.admin("POST", "/sales", a_sale(sale_id=sale_id))
    first = (await api.admin("GET", f"/sales?after={start}&limit=3")).json
    assert [sale["sale_id"] for sale in first["sales"]] == ids[:3]
    second = (await api.admin("GET", f"/sales?after={first['next']}&limit=2")).json
    assert [sale["sale_id"] for sale in second["sales"]] == ids[3:]
    for query in ("limit=0", "limit=501", "limit=x", "limit=" + "9" * 5000, "offset=3", "after=%00"):
        reply = await api.admin("GET", f"/sales?{query}")
        assert (reply.status, reply.code) == (400, "invalid_query")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/sales/{}"),
        ("PATCH", "/sales/{}"),
        ("POST", "/sales/{}/open"),
        ("POST", "/sales/{}/end"),
        ("GET", "/sales/{}/stats"),
        ("PUT", "/sales/{}/items/seat/stock"),
    ],
)
@pytest.mark.parametrize("sale_id", ["no-such-sale", "Not%20An%20Id"])
async def test_an_unknown_sale_is_said_to_be_unknown(api: Api, method: str, path: str, sale_id: str) -> None:
    body = {"stock": 1, "version": 1} if method == "PUT" else {} if method in {"PATCH", "POST"} else None
    reply = await api.admin(method, path.format(sale_id), body)
    assert (reply.status, reply.code) == (404, "unknown_sale")


async def test_an_unknown_sku_is_said_to_be_unknown(api: Api) -> None:
    reply = await api.admin("PUT", f"/sales/{await api.sale()}/items/nope/stock", {"stock": 1, "version": 1})
    assert (reply.status, reply.code) == (404, "unknown_sku")


# Keys and roles


async def test_without_a_key_or_with_a_wrong_one_nothing_is_told(api: Api) -> None:
    for method, path in (("GET", "/admin/sales"), ("POST", "/admin/sales"), ("GET", "/admin/keys")):
        without = await api.call(method, path)
        assert (without.status, without.code) == (401, "key_required")
        assert "www-authenticate" in without.headers
        for key in ("wrong", "x" * 10_000, FIRST_KEY[:-1], FIRST_KEY + "x"):
            reply = await api.call(method, path, key=key, check=len(key) < 8000)
            assert reply.status in {401, 431, 400}
            assert reply.status != 401 or reply.code == "bad_key"


async def test_a_role_may_do_its_own_and_what_the_lesser_ones_may(api: Api) -> None:
    viewer, operator, admin = [await key_of(api, role) for role in ("viewer", "operator", "admin")]
    sale_id = await api.sale()
    for key, allowed in ((viewer, 1), (operator, 2), (admin, 3)):
        calls = [
            await api.admin("GET", f"/sales/{sale_id}", key=key),
            await api.admin("PATCH", f"/sales/{sale_id}", {"message": "x"}, key=key),
            await api.admin("GET", "/keys", key=key),
        ]
        assert [reply.status for reply in calls] == [200] * allowed + [403] * (3 - allowed)
        assert {reply.code for reply in calls[allowed:]} <= {"not_allowed"}


async def test_a_key_is_told_once_kept_hashed_and_ends_when_it_is_revoked(api: Api) -> None:
    name = a_name(of="key")
    made = await api.admin("POST", "/keys", {"name": name, "role": "operator"})
    key = made.json["key"]
    again = await api.admin("POST", "/keys", {"name": name, "role": "viewer"})
    assert (again.status, again.code) == (409, "key_exists")
    listed = await api.admin("GET", "/keys")
    assert name in [row["name"] for row in listed.json["keys"]]
    assert key.encode() not in listed.body
    stored = await api.redis.hgetall("fairline:keys")
    assert key not in str(stored)
    assert (await api.admin("GET", "/sales", key=key)).status == 200
    assert (await api.admin("DELETE", f"/keys/{name}")).status == 204
    assert (await api.admin("GET", "/sales", key=key)).code == "bad_key"
    gone = await api.admin("DELETE", f"/keys/{name}")
    assert (gone.status, gone.code) == (404, "unknown_key")


async def test_a_key_revoked_at_one_gateway_ends_at_the_others_within_a_second(api: Api, redis_url: str) -> None:
    async with a_gateway(redis_url) as other:
        name = a_name(of="key")
        key = (await api.admin("POST", "/keys", {"name": name, "role": "viewer"})).json["key"]
        assert (await other.admin("GET", "/sales", key=key)).status == 200
        await api.admin("DELETE", f"/keys/{name}")

        async def refused() -> bool:
            return (await other.admin("GET", "/sales", key=key)).status == 401

        await eventually(refused)


async def test_forty_keys_of_one_name_at_once_are_one(api: Api) -> None:
    name = a_name(of="key")
    calls = (api.admin("POST", "/keys", {"name": name, "role": "viewer"}) for _ in range(40))
    replies = await asyncio.gather(*calls)
    assert [reply.status for reply in replies].count(201) == 1
    assert [row["name"] for row in (await api.admin("GET", "/keys")).json["keys"]].count(name) == 1


@pytest.mark.parametrize("body", [{"name": "A B", "role": "viewer"}, {"name": "a", "role": "king"}, {"name": "a"}])
async def test_a_wrong_key_request_is_refused(api: Api, body: dict[str, Any]) -> None:
    assert (await api.admin("POST", "/keys", body)).status == 400


# What Postgres knows


@asynccontextmanager
async def an_order_service(answer: web.Response | None) -> AsyncIterator[str]:
    """Something that answers like the order service, or not at all."""

    async def history(request: web.Request) -> web.Response:
        if answer is None:
            await asyncio.Event().wait()
        assert answer is not None
        seen.append(request.path_qs)
        return answer

    seen: list[str] = []
    app = web.Application()
    app.router.add_get("/internal/sales/{sale}/{what}", history)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (web.Response(text='{"rows":[]}', content_type="application/json"), 200, ""),
        (web.Response(status=404, text="{}", content_type="application/json"), 404, "unknown_sale"),
        (web.Response(status=400, text="{}", content_type="application/problem+json"), 400, "invalid_query"),
        (web.Response(status=503, text="away"), 503, "unavailable"),
        (web.Response(status=500, text="oops"), 502, "bad_gateway"),
        (web.Response(text="<html>", content_type="text/html"), 502, "bad_gateway"),
        (None, 503, "unavailable"),
    ],
)
async def test_history_is_passed_on_or_said_to_be_away(
    redis_url: str, answer: web.Response | None, status: int, code: str
) -> None:
    within_s = "0.3" if answer is None else "30"  # a busy machine is no silent order service
    async with (
        an_order_service(answer) as url,
        a_gateway(redis_url, ORDER_SERVICE_URL=url, GATEWAY_ORDER_SERVICE_TIMEOUT_S=within_s) as api,
    ):
        reply = await api.admin("GET", "/sales/some-sale/history?limit=5")
        assert reply.status == status
        if code:
            assert reply.code == code
        else:
            assert reply.json == {"rows": []}
        assert status != 503 or int(reply.headers["retry-after"]) >= 1


async def test_an_answer_of_the_order_service_that_is_too_large_is_not_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = '{"rows":[]}'
    async with an_order_service(web.Response(text=text, content_type="application/json")) as url:
        asked = Records(url, timeout_s=30)
        try:
            monkeypatch.setattr(records, "MOST_BYTES", len(text) - 1)
            with pytest.raises(Problem, match="bad_gateway") as caught:
                await asked.ask("some-sale", "history", {})
            assert "too large" in caught.value.detail
        finally:
            await asked.close()


async def test_an_order_service_that_is_not_there_is_said_to_be_away(api: Api) -> None:
    for what in ("history", "sold", "records"):
        reply = await api.admin("GET", f"/sales/some-sale/{what}")
        assert (reply.status, reply.code) == (503, "unavailable")
    assert (await api.admin("GET", "/sales/some-sale/history?x=1")).code == "invalid_query"
    assert KINDS["unavailable"].retry_s
