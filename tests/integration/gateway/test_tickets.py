"""A buyer's own ticket: status, leaving, tokens."""

import asyncio
from typing import Any

import pytest

from fairline.tokens import Claims, TokenKeys
from tests.support.gateway import TOKEN_KEYS, Api, Reply
from tests.support.rebuilt import rebuilt
from tests.support.sale import SaleDriver
from tests.support.sale_facts import faults_of
from tests.support.stack import eventually


async def joined(api: Api, sale_id: str, buyer: str, **more: Any) -> Any:
    reply = await api.join(sale_id, buyer, request=f"{buyer}-1", **more)
    assert reply.status == 202
    return reply.json


async def status(api: Api, sale_id: str, ticket: Any) -> Reply:
    return await api.call("GET", f"/sales/{sale_id}/tickets/{ticket['ticket_id']}", key=ticket["token"])


async def leave(api: Api, sale_id: str, ticket: Any) -> Reply:
    return await api.call("DELETE", f"/sales/{sale_id}/tickets/{ticket['ticket_id']}", key=ticket["token"])


async def test_the_place_and_the_expected_wait_are_told(api: Api) -> None:
    sale_id = await api.sale(rate_per_s=2.0)
    tickets = [await joined(api, sale_id, buyer) for buyer in ("anna", "bert", "carl")]
    reply = await status(api, sale_id, tickets[2])
    assert reply.status == 200
    assert (reply.json["state"], reply.json["outcome"]) == ("WAITING", None)
    assert (reply.json["position"], reply.json["ahead"], reply.json["eta_s"]) == (3, 2, 1.0)
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.headers["cache-control"] == "no-store"


async def test_the_whole_way_to_a_unit_is_told(api: Api) -> None:
    sale = await SaleDriver.opened(api.redis, 2)
    ticket = await joined(api, sale.id, "anna")
    lease, _ = await sale.admit()
    admitted = (await status(api, sale.id, ticket)).json
    assert (admitted["state"], admitted["position"], admitted["next_poll_s"]) == ("ADMITTED", None, 1.0)
    await sale.reserve(lease, ticket["ticket_id"])
    reserved = (await status(api, sale.id, ticket)).json
    assert (reserved["state"], reserved["units"], reserved["outcome"]) == ("RESERVED", [1], None)
    await sale.confirm(ticket["ticket_id"])
    reply = await status(api, sale.id, ticket)
    assert (reply.json["state"], reply.json["outcome"], reply.json["units"]) == ("CONFIRMED", "CONFIRMED", [1])
    assert reply.json["next_poll_s"] is None
    assert "retry-after" not in reply.headers


async def test_a_reason_is_told(api: Api) -> None:
    sale = await SaleDriver.opened(api.redis, 2)
    ticket = await joined(api, sale.id, "anna")
    lease, _ = await sale.admit()
    await sale.decline(lease, ticket["ticket_id"], reason="payment_declined")
    reply = await status(api, sale.id, ticket)
    assert (reply.json["outcome"], reply.json["reason"]) == ("DECLINED", "payment_declined")


async def test_leaving_twice_answers_the_same_and_changes_nothing_more(api: Api) -> None:
    sale_id = await api.sale()
    ticket = await joined(api, sale_id, "anna")
    first, again = await leave(api, sale_id, ticket), await leave(api, sale_id, ticket)
    assert (first.status, first.json["state"], first.json["outcome"]) == (200, "LEFT", "LEFT")
    assert again.json == first.json
    counts = (await api.admin("GET", f"/sales/{sale_id}/stats")).json
    assert (counts["left"], counts["waiting"]) == (1, 0)


async def test_who_does_not_wait_cannot_leave(api: Api) -> None:
    sale = await SaleDriver.opened(api.redis, 2)
    ticket = await joined(api, sale.id, "anna")
    await sale.admit()
    reply = await leave(api, sale.id, ticket)
    assert (reply.status, reply.code, reply.json["state"]) == (409, "not_waiting", "ADMITTED")
    assert (await status(api, sale.id, ticket)).json["state"] == "ADMITTED"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_only_the_ticket_s_own_token_opens_it(api: Api, method: str) -> None:
    sale_id = await api.sale()
    ticket, other = await joined(api, sale_id, "anna"), await joined(api, sale_id, "bert")
    path = f"/sales/{sale_id}/tickets/{ticket['ticket_id']}"
    without = await api.call(method, path)
    assert (without.status, without.code) == (401, "token_required")
    assert without.headers["www-authenticate"].startswith("Bearer")
    forged = TokenKeys.parse("test:" + "another secret of nobody that is long enough").sign(
        Claims(sale_id, "seat", "anna", ticket["ticket_id"], 1, 1)
    )
    head, body, end = ticket["token"].split(".")
    unsigned = "eyJhbGciOiJub25lIiwia2lkIjoidGVzdCJ9." + body + "."
    for token in (other["token"], forged, unsigned, f"{head}.{body}.{end[:-2]}", "x", "x" * 5000, "a.b.c"):
        reply = await api.call(method, path, key=token)
        assert (reply.status, reply.code) == (401, "bad_token"), token
    assert (await status(api, sale_id, ticket)).json["state"] == "WAITING"


async def test_a_genuine_token_of_a_ticket_that_is_not_there_finds_no_ticket(api: Api) -> None:
    sale_id = await api.sale()
    ticket_id = "00000000-0000-4000-8000-000000000000"
    token = TokenKeys.parse(TOKEN_KEYS).sign(Claims(sale_id, "seat", "anna", ticket_id, 1, 1))
    for method in ("GET", "DELETE"):
        reply = await api.call(method, f"/sales/{sale_id}/tickets/{ticket_id}", key=token)
        assert (reply.status, reply.code) == (404, "unknown_ticket")


async def test_c2_a_ticket_of_an_archived_sale_is_in_the_archive(api: Api) -> None:
    sale = await SaleDriver.opened(api.redis, 1)
    ticket = await joined(api, sale.id, "anna")
    await sale.change("end")
    await sale.acknowledge()
    await sale.close()
    await sale.relay()
    assert await sale.closed() == "CLOSED"

    async def closed() -> bool:  # a frame later
        return bool((await api.call("GET", f"/sales/{sale.id}")).json["state"] == "closed")

    await eventually(closed)
    assert (await status(api, sale.id, ticket)).json["state"] == "DECLINED"
    await sale.archive("all")
    await sale.stock.unlink("all")
    for method in ("GET", "DELETE"):
        reply = await api.call(method, f"/sales/{sale.id}/tickets/{ticket['ticket_id']}", key=ticket["token"])
        assert (reply.status, reply.code) == (410, "archived")
    again = await api.join(sale.id, "anna", request="a-new-wish")
    assert (again.status, again.code) == (409, "sale_closed")
    await sale.remove()


async def test_a_genuine_token_of_an_unknown_sale_says_that_redis_lost_it(api: Api) -> None:
    ticket_id = "00000000-0000-4000-8000-000000000000"
    token = TokenKeys.parse(TOKEN_KEYS).sign(Claims("gone", "seat", "anna", ticket_id, 1, 1))
    reply = await api.call("GET", f"/sales/gone/tickets/{ticket_id}", key=token)
    assert (reply.status, reply.code) == (503, "recovering")
    assert int(reply.headers["retry-after"]) >= 1


async def test_d4_after_a_rebuild_a_status_call_brings_back_a_lost_ticket_and_says_that_its_buyer_is_there(
    api: Api,
) -> None:
    sale = await SaleDriver.opened(api.redis, 5, per_buyer_limit=3)
    anna, bert, carl = [await joined(api, sale.id, name, quantity=2) for name in ("anna", "bert", "carl")]
    await rebuilt(sale, anna["ticket_id"], bert["ticket_id"], found=0)
    back = (await status(api, sale.id, bert)).json
    assert (back["state"], back["arrival"], back["position"], back["quantity"]) == ("WAITING", bert["arrival"], 1, 2)
    assert (await status(api, sale.id, anna)).json["position"] == 1
    assert (await status(api, sale.id, bert)).json["position"] == 2
    assert await sale.admitted() == [anna["ticket_id"], bert["ticket_id"]]
    assert (await status(api, sale.id, carl)).json["state"] == "WAITING"
    assert await faults_of(sale) == []


async def test_d4_a_lost_ticket_can_be_left_and_its_buyer_s_other_one_answers_for_it(api: Api) -> None:
    sale = await SaleDriver.opened(api.redis, 5)
    anna, bert = [await joined(api, sale.id, name) for name in ("anna", "bert")]
    await rebuilt(sale, anna["ticket_id"], bert["ticket_id"], found=0)
    assert (await leave(api, sale.id, anna)).json["state"] == "LEFT"
    again = await joined(api, sale.id, "bert")
    both = (await status(api, sale.id, bert)).json
    assert (both["ticket_id"], both["arrival"], both["position"]) == (bert["ticket_id"], bert["arrival"], 1)
    assert (await status(api, sale.id, again)).json["arrival"] == bert["arrival"]
    assert (await sale.stats()).in_flight == 0
    assert await faults_of(sale) == []


async def test_a_crowd_that_asks_at_once_is_answered_each_with_its_own(api: Api) -> None:
    sale_id = await api.sale(stock=100)
    tickets = [await joined(api, sale_id, f"buyer-{number}") for number in range(30)]
    replies = await asyncio.gather(*(status(api, sale_id, ticket) for ticket in tickets))
    assert [reply.json["ticket_id"] for reply in replies] == [ticket["ticket_id"] for ticket in tickets]
    assert [reply.json["position"] for reply in replies] == list(range(1, 31))


async def test_everybody_may_see_how_a_sale_stands(api: Api) -> None:
    sale_id = await api.sale(message="Welcome", rate_per_s=5.0, per_buyer_limit=2)
    await joined(api, sale_id, "anna")
    reply = await api.call("GET", f"/sales/{sale_id}")
    assert reply.status == 200
    assert "s-maxage=1" in reply.headers["cache-control"]
    sale = reply.json
    assert (sale["state"], sale["message"], sale["rate_per_s"]) == ("open", "Welcome", 5.0)
    assert sale["items"][0]["sku"] == "seat"
    assert sale["items"][0]["outlook"] == "available"
    assert sale["server_time"].endswith("Z")
    unknown = await api.call("GET", "/sales/no-such-sale")
    assert (unknown.status, unknown.code) == (404, "unknown_sale")


async def test_what_has_not_changed_is_not_sent_again(api: Api) -> None:
    sale_id = await api.sale()
    first = await api.call("GET", f"/sales/{sale_id}")
    etag = first.headers["etag"]
    for known in (etag, '"other", ' + etag):
        again = await api.call("GET", f"/sales/{sale_id}", if_none_match=known)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    await api.admin("PATCH", f"/sales/{sale_id}", {"message": "new"})

    async def changed() -> str:  # a frame later
        after = await api.call("GET", f"/sales/{sale_id}", if_none_match=etag)
        return str(after.json["message"]) if after.status == 200 else ""

    assert await eventually(changed) == "new"
