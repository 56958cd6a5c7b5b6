"""Joining, over real HTTP on a real Redis: each answer of the contract."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from admission.stock import Stock
from fairline.ids import ticket_id_for
from fairline.store.room import Room
from fairline.tokens import TokenKeys
from tests.support.gateway import TOKEN_KEYS, Api, Reply
from tests.support.sale import SaleDriver
from tests.support.stack import eventually


async def driven(api: Api, stock: int = 2, **definition: Any) -> SaleDriver:
    """An open sale that the test moves by hand."""
    return await SaleDriver.opened(api.redis, stock, **definition)


async def stats(api: Api, sale_id: str) -> Any:
    reply = await api.admin("GET", f"/sales/{sale_id}/stats")
    assert reply.status == 200
    return reply.json


async def counted(api: Api, sale_id: str, *, asked: int, refused: dict[str, int]) -> Any:
    """The statistics, as soon as they say so: what was answered without asking Redis is added a moment later."""

    async def told() -> Any:
        counts = await stats(api, sale_id)
        assert (counts["asked"], counts["refused"]) == (asked, refused)
        return counts

    return await eventually(told)


async def test_a_join_gives_a_ticket_with_a_token_that_opens_it(api: Api) -> None:
    sale_id = await api.sale()
    reply = await api.join(sale_id, "anna")
    ticket = reply.json
    assert reply.status == 202
    assert reply.headers["cache-control"] == "no-store"
    assert (ticket["state"], ticket["position"], ticket["ahead"]) == ("WAITING", 1, 0)
    assert (ticket["arrival"], ticket["number"], ticket["quantity"], ticket["sku"]) == (1, 1, 1, "seat")
    path = f"/sales/{sale_id}/tickets/{ticket['ticket_id']}"
    assert ticket["status_url"] == api.url + path
    assert ticket["ws_url"] == "ws://127.0.0.1:9" + path
    claims = TokenKeys.parse(TOKEN_KEYS).check(ticket["token"], sale_id=sale_id, ticket_id=ticket["ticket_id"])
    assert (claims.sku, claims.buyer_id, claims.arrival, claims.number) == ("seat", "anna", 1, 1)


async def test_a_repeat_with_the_same_key_gets_the_same_ticket_and_token(api: Api) -> None:
    sale_id = await api.sale()
    first, again = [await api.join(sale_id, "anna", request="r-1") for _ in range(2)]
    assert (first.status, again.status) == (202, 200)
    assert again.json == first.json
    assert first.json["ticket_id"] == ticket_id_for(sale_id, "seat", "anna", "r-1")


async def test_a_repeat_with_another_key_or_none_gets_the_live_ticket_without_its_token(api: Api) -> None:
    sale_id = await api.sale()
    first = await api.join(sale_id, "anna", request="r-1")
    for request in ("r-2", None):
        reply = await api.join(sale_id, "anna", request=request)
        assert (reply.status, reply.json["ticket_id"]) == (200, first.json["ticket_id"])
        assert reply.json["token"] is None


async def test_a_key_counts_for_one_buyer(api: Api) -> None:
    sale_id = await api.sale()
    one, other = await api.join(sale_id, "anna", request="r"), await api.join(sale_id, "bert", request="r")
    assert (one.status, other.status) == (202, 202)
    assert one.json["ticket_id"] != other.json["ticket_id"]


async def test_a_key_with_another_body_is_refused(api: Api) -> None:
    sale_id = await api.sale(per_buyer_limit=3)
    await api.join(sale_id, "anna", request="r", quantity=1)
    reply = await api.join(sale_id, "anna", request="r", quantity=2)
    assert (reply.status, reply.code) == (422, "idempotency_key_reused")


async def test_who_accepts_fewer_gets_what_there_is_and_the_key_remembers_the_wish(api: Api) -> None:
    sale_id = await api.sale(stock=2, per_buyer_limit=3)
    wish: dict[str, Any] = {"request": "r", "quantity": 3, "accept_fewer": True}
    first = await api.join(sale_id, "anna", **wish)
    assert (first.status, first.json["quantity"]) == (202, 3)
    skus = await Room(api.redis).skus(sale_id)
    assert skus is not None
    await Stock(api.redis, sale_id, skus).admit("lease", lease_ms=60_000, most=1, outbox_limit=10)
    again = await api.join(sale_id, "anna", **wish)
    assert (again.status, again.json["quantity"], again.json["token"]) == (200, 2, first.json["token"])
    other = await api.join(sale_id, "anna", **wish | {"accept_fewer": False})
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    wrong = await api.join(sale_id, "bert", accept_fewer="yes")
    assert (wrong.status, wrong.code, wrong.json["field"]) == (400, "invalid_field", "accept_fewer")


async def test_forty_joins_at_once_by_one_buyer_make_one_ticket(api: Api) -> None:
    sale_id = await api.sale()
    replies = await asyncio.gather(*(api.join(sale_id, "anna") for _ in range(40)))
    assert Counter(reply.status for reply in replies) == {202: 1, 200: 39}
    assert len({reply.json["ticket_id"] for reply in replies}) == 1
    assert [reply.json["token"] is not None for reply in replies].count(True) == 1
    assert (await stats(api, sale_id))["joined"] == 1


async def test_forty_joins_at_once_with_one_key_are_one_ticket_and_one_token(api: Api) -> None:
    sale_id = await api.sale()
    replies = await asyncio.gather(*(api.join(sale_id, "anna", request="r") for _ in range(40)))
    assert Counter(reply.status for reply in replies) == {202: 1, 200: 39}
    assert len({(reply.json["ticket_id"], reply.json["token"]) for reply in replies}) == 1


async def test_joins_at_once_are_few_calls_to_redis(api: Api) -> None:
    sale_id = await api.sale(stock=500)
    before = api.gateway.metrics.join_batch._sum.get(), _calls(api)
    await asyncio.gather(*(api.join(sale_id, f"buyer-{number}") for number in range(200)))
    assert api.gateway.metrics.join_batch._sum.get() - before[0] == 200
    assert _calls(api) - before[1] < 150


def _calls(api: Api) -> float:
    return sum(float(bucket.get()) for bucket in api.gateway.metrics.join_batch._buckets)


async def test_a_join_survives_a_client_that_hangs_up(api: Api) -> None:
    sale_id = await api.sale()
    body = json.dumps({"sku": "seat", "buyer_id": "anna"}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rsplit(":")[-1]))
    head = (
        f"POST /sales/{sale_id}/tickets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        f"idempotency-key: r-1\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    writer.transport.abort()

    async def joined() -> bool:
        return bool((await stats(api, sale_id))["joined"] == 1)

    await eventually(joined)
    again = await api.join(sale_id, "anna", request="r-1")
    assert (again.status, again.json["arrival"]) == (200, 1)
    assert again.json["token"]


async def test_a_draft_is_not_open_and_says_when_to_come(api: Api) -> None:
    opens_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    for sale_id in (await api.sale(opened=False), await api.sale(opened=False, opens_at=opens_at)):
        for request in (None, "r"):
            reply = await api.join(sale_id, "anna", request=request)
            assert (reply.status, reply.code) == (425, "not_open")
            assert 1 <= int(reply.headers["retry-after"]) <= 125


async def test_after_the_end_no_join_is_taken_but_a_known_one_is_answered(api: Api) -> None:
    sale_id = await api.sale()
    first = await api.join(sale_id, "anna", request="r")
    await api.admin("POST", f"/sales/{sale_id}/end")
    reply = await api.join(sale_id, "bert")
    assert (reply.status, reply.code) == (409, "sale_closed")
    again = await api.join(sale_id, "anna", request="r")
    assert (again.status, again.json["ticket_id"]) == (200, first.json["ticket_id"])


async def test_a_closed_sale_is_closed(api: Api) -> None:
    sale = await driven(api)
    await sale.change("end")
    await sale.relay()
    await sale.acknowledge()
    assert await sale.closed() == "CLOSED"

    async def refused() -> bool:
        return (await api.join(sale.id, "anna")).code == "sale_closed" and (await look(api, sale.id)) == "closed"

    await eventually(refused)


async def look(api: Api, sale_id: str) -> str:
    return str((await api.call("GET", f"/sales/{sale_id}")).json["state"])


async def test_a_paused_sale_takes_joins(api: Api) -> None:
    sale_id = await api.sale()
    await api.admin("POST", f"/sales/{sale_id}/pause")
    assert (await api.join(sale_id, "anna")).status == 202


async def test_who_holds_the_limit_has_already_bought_and_more_is_over_the_limit(api: Api) -> None:
    sale = await driven(api, 10, per_buyer_limit=2)
    over = await api.join(sale.id, "carl", quantity=3)
    assert (over.status, over.code) == (409, "over_limit")
    await sale.sold("anna", quantity=2)
    bought = await api.join(sale.id, "anna")
    assert (bought.status, bought.code) == (409, "already_bought")
    await sale.sold("bert")
    over = await api.join(sale.id, "bert", quantity=2)
    assert (over.status, over.code) == (409, "over_limit")
    assert (await api.join(sale.id, "bert")).status == 202


async def test_sold_out_is_told_and_counted(api: Api) -> None:
    sale = await driven(api, 1)
    await sale.sold("anna")
    replies = [await api.join(sale.id, f"b{number}", request=request) for number in range(5) for request in (None, "r")]
    assert {(reply.status, reply.code) for reply in replies} == {(409, "sold_out")}
    counts = await counted(api, sale.id, asked=11, refused={"sold_out": 10})
    assert counts["items"][0]["refused"] == {"sold_out": 10}


async def test_sold_out_needs_no_call_to_redis(api: Api) -> None:
    sale_id = await api.sale(stock=0)
    assert (await api.join(sale_id, "anna")).code == "sold_out"
    before = _calls(api)
    replies = await asyncio.gather(*(api.join(sale_id, f"b{number}") for number in range(50)))
    assert {reply.code for reply in replies} == {"sold_out"}
    assert _calls(api) == before
    await counted(api, sale_id, asked=51, refused={"sold_out": 51})


async def test_a_repeat_is_answered_even_when_everything_is_sold(api: Api) -> None:
    sale = await driven(api, 1)
    first = await api.join(sale.id, "anna", request="r")
    ticket_id = first.json["ticket_id"]
    lease, _ = await sale.admit()
    await sale.reserve(lease, ticket_id)
    await sale.confirm(ticket_id)
    again = await api.join(sale.id, "anna", request="r")
    assert (again.status, again.json["state"], again.json["token"]) == (200, "CONFIRMED", first.json["token"])
    assert again.json["position"] is None


async def test_after_leaving_a_new_join_gives_a_new_ticket_at_the_back(api: Api) -> None:
    sale_id = await api.sale()
    first = (await api.join(sale_id, "anna", request="1")).json
    await api.join(sale_id, "bert")
    await api.call("DELETE", f"/sales/{sale_id}/tickets/{first['ticket_id']}", key=first["token"])
    second = await api.join(sale_id, "anna", request="2")
    assert (second.status, second.json["number"]) == (202, 3)
    assert second.json["ticket_id"] != first["ticket_id"]


async def test_unknown_sales_and_skus_are_said_to_be_unknown(api: Api) -> None:
    sale_id = await api.sale()
    for path in ("no-such-sale", "Not%20An%20Id", "a%7D%3Ameta", "x" * 65):
        reply = await api.join(path, "anna")
        assert (reply.status, reply.code) == (404, "unknown_sale")
    reply = await api.join(sale_id, "anna", sku="no-such-sku")
    assert (reply.status, reply.code) == (404, "unknown_sku")
    await counted(api, sale_id, asked=1, refused={"unknown_sku": 1})


@pytest.mark.parametrize("buyer", ["", " anna", "anna\t", "an\u202ena", "a" * 129, "Ame\u0301lie", "x" * 3000])
async def test_a_buyer_id_that_misleads_is_refused(api: Api, buyer: str) -> None:
    reply = await api.join(await api.sale(), buyer)
    assert (reply.status, reply.code, reply.json["field"]) == (400, "invalid_field", "buyer_id")


@pytest.mark.parametrize("buyer", ["x", "a" * 128, "Amélie Ω 漢字", "o'brien; --", "{}:*"])
async def test_a_buyer_id_that_prints_is_taken(api: Api, buyer: str) -> None:
    assert (await api.join(await api.sale(), buyer)).status == 202


@pytest.mark.parametrize("quantity", [0, -1, 10**9, 1.5, "1", True, None, 10**30])
async def test_a_quantity_that_nobody_can_have_is_refused(api: Api, quantity: Any) -> None:
    reply = await api.join(await api.sale(), "anna", quantity=quantity)
    assert (reply.status, reply.code, reply.json["field"]) == (400, "invalid_field", "quantity")
    assert "1 to 100" in reply.json["detail"]


@pytest.mark.parametrize("key", ["", "x" * 129, "with space", "t\u00e4st", "\x7f"])
async def test_a_bad_idempotency_key_is_refused(api: Api, key: str) -> None:
    reply = await raw(api, b"idempotency-key: " + key.encode())
    assert reply.startswith(b"HTTP/1.1 400")
    assert b'"invalid_idempotency_key"' in reply or key == "\x7f"


async def raw(api: Api, *headers: bytes, path: str = "/sales/x/tickets", body: bytes = b"{}") -> bytes:
    """A request byte by byte, and the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rsplit(":")[-1]))
    head = [f"POST {path} HTTP/1.1".encode(), b"host: x", b"connection: close", b"content-length: %d" % len(body)]
    writer.write(b"\r\n".join([*head, b"content-type: application/json", *headers, b"", b""]) + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed_body"),
        (b"{", "malformed_body"),
        (b"[1]", "malformed_body"),
        (b"[" * 4000, "malformed_body"),
        (b'{"sku": NaN}', "malformed_body"),
        (b'{"sku":"seat","buyer_id":"\xff"}', "malformed_body"),
        (b"{}", "missing_field"),
        (b'{"sku":"seat","buyer_id":"a","vip":1}', "unknown_field"),
        (b'{"sku":["seat"],"buyer_id":"a"}', "invalid_field"),
    ],
)
async def test_a_bad_body_has_a_code_for_its_cause(api: Api, data: bytes, code: str) -> None:
    reply = await api.call("POST", f"/sales/{await api.sale()}/tickets", data=data)
    assert (reply.status, reply.code) == (400, code)


async def test_a_body_of_another_type_is_refused(api: Api) -> None:
    body = {"sku": "seat", "buyer_id": "anna"}
    reply = await api.call("POST", f"/sales/{await api.sale()}/tickets", body, content_type="text/plain")
    assert (reply.status, reply.code) == (415, "wrong_content_type")


async def test_a_large_body_is_refused_before_it_is_sent(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rsplit(":")[-1]))
    writer.write(b"POST /sales/x/tickets HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n")
    answer = await reader.read()  # not a byte of the body is sent, and the connection is closed
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"body_too_large"' in answer
    writer.close()


async def test_a_large_body_in_chunks_is_refused(api: Api) -> None:
    async def chunks() -> Any:
        for _ in range(6):
            yield b"x" * 1000

    reply = await api.call("POST", f"/sales/{await api.sale()}/tickets", data=chunks())
    assert (reply.status, reply.code, reply.json["limit_bytes"]) == (413, "body_too_large", 4096)


async def test_an_address_that_takes_no_such_method_says_which_it_takes(api: Api) -> None:
    sale_id = await api.sale()
    reply = await api.call("PUT", f"/sales/{sale_id}/tickets")
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert "POST" in reply.headers["allow"]
    assert (await api.call("PURGE", f"/sales/{sale_id}")).status == 405


async def test_an_odd_spelling_of_the_address_is_answered_the_same(api: Api) -> None:
    sale_id = await api.sale()
    body = {"sku": "seat", "buyer_id": "anna"}
    reply = await api.call("POST", f"/sales/{sale_id}/tickets/", body, check=False, idempotency_key="r")
    assert reply.status == 202
    assert (await api.join(sale_id, "anna", request="r")).json == reply.json


def spread(replies: list[Reply]) -> set[str]:
    return {reply.headers["retry-after"] for reply in replies}


async def test_waiting_times_differ_from_client_to_client(api: Api) -> None:
    opens_at = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    sale_id = await api.sale(opened=False, opens_at=opens_at)
    assert len(spread([await api.join(sale_id, f"b{number}") for number in range(30)])) > 3
