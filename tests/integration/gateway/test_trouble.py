"""Trouble: Redis frozen, restarted, away; slow clients; too many of them; several gateways."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fairline.store.room import Room
from tests.integration.gateway.conftest import Troubled
from tests.support.gateway import Api, Reply, a_gateway
from tests.support.killed_redis import kill_redis
from tests.support.sale import SaleDriver
from tests.support.stack import eventually


def all_are_put_off(replies: Sequence[Reply], code: str) -> None:
    """Each is a 503 of this code, and says when to come back."""
    assert {(reply.status, reply.code) for reply in replies} == {(503, code)}
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies)


async def test_a_frozen_redis_is_503_and_afterwards_everything_goes_on(troubled: Troubled) -> None:
    api, pid = troubled.api, troubled.redis.pid("redis")
    sale_id = await api.sale(stock=50)
    ticket = (await api.join(sale_id, "first", request="r")).json
    path = f"/sales/{sale_id}/tickets/{ticket['ticket_id']}"
    os.kill(pid, signal.SIGSTOP)
    try:
        replies = await asyncio.gather(
            *(api.join(sale_id, f"buyer-{number}", request="r") for number in range(10)),
            api.call("GET", path, key=ticket["token"]),
            api.call("DELETE", path, key=ticket["token"]),
            api.admin("GET", f"/sales/{sale_id}"),
            api.admin("GET", f"/sales/{sale_id}/stats"),
        )
        all_are_put_off(replies, "unavailable")
        seen = await api.call("GET", f"/sales/{sale_id}")  # what was seen before has grown too old by now
        assert (seen.status, seen.code) == (503, "unavailable")
        assert (await api.call("GET", "/livez", check=False)).status == 200
    finally:
        os.kill(pid, signal.SIGCONT)

    async def all_joined() -> bool:
        again = [await api.join(sale_id, f"buyer-{number}", request="r") for number in range(10)]
        return {reply.status for reply in again} <= {200, 202}

    await eventually(all_joined)
    counts = (await api.admin("GET", f"/sales/{sale_id}/stats")).json
    assert counts["joined"] == 11  # a join whose answer was lost is the same ticket when it is repeated


async def test_a_restarted_redis_halts_the_sale_and_everybody_reads_recovering(troubled: Troubled) -> None:
    api = troubled.api
    sale_id = await api.sale()
    ticket = (await api.join(sale_id, "anna", request="r")).json
    path = f"/sales/{sale_id}/tickets/{ticket['ticket_id']}"
    await kill_redis(troubled.redis)

    async def recovering() -> bool:
        return bool((await api.call("GET", f"/sales/{sale_id}")).code == "recovering")

    await eventually(recovering)
    replies = [
        await api.join(sale_id, "bert"),
        await api.join(sale_id, "anna", request="r"),
        await api.call("GET", path, key=ticket["token"]),
        await api.call("DELETE", path, key=ticket["token"]),
        await api.admin("GET", f"/sales/{sale_id}"),
        await api.admin("GET", f"/sales/{sale_id}/stats"),
        await api.admin("PATCH", f"/sales/{sale_id}", {"message": "x"}),
        await api.admin("POST", f"/sales/{sale_id}/open"),
        await api.admin("PUT", f"/sales/{sale_id}/items/seat/stock", {"stock": 1, "version": 1}),
    ]
    all_are_put_off(replies, "recovering")
    rows = (await api.admin("GET", "/sales")).json["sales"]
    assert [(row["sale_id"], row["state"]) for row in rows] == [(sale_id, "recovering")]
    assert (await api.call("GET", "/readyz", check=False)).status == 200
    assert (await api.call("GET", f"/room/{sale_id}")).status == 200


async def test_a_sale_that_redis_forgot_is_recovering_where_it_was_known(troubled: Troubled) -> None:
    api = troubled.api
    sale_id = await api.sale()
    ticket = (await api.join(sale_id, "anna")).json
    await api.redis.flushall()

    async def recovering() -> bool:
        return bool((await api.join(sale_id, "bert")).code == "recovering")

    await eventually(recovering)
    async with a_gateway(troubled.redis.redis_url) as other:  # knows nothing but the token
        path = f"/sales/{sale_id}/tickets/{ticket['ticket_id']}"
        reply = await other.call("GET", path, key=ticket["token"])
        assert (reply.status, reply.code) == (503, "recovering")
        assert (await other.join(sale_id, "bert")).code == "unknown_sale", "as far as anybody knows"
        await api.redis.flushall()
        replies = [
            await other.join("never-asked-for", "bert"),
            await other.call("GET", "/sales/never-asked-for-either"),
            await other.call("GET", path, key=ticket["token"]),
            await other.admin("GET", f"/sales/{sale_id}"),
            await other.admin("GET", f"/sales/{sale_id}/stats"),
            await other.admin("PATCH", f"/sales/{sale_id}", {"message": "x"}),
            await other.admin("POST", f"/sales/{sale_id}/pause"),
            await other.admin("PUT", f"/sales/{sale_id}/items/seat/stock", {"stock": 1, "version": 1}),
        ]
        all_are_put_off(replies, "recovering")  # it cannot know yet


async def test_a_sale_that_nobody_has_any_more_is_unknown_where_it_was_known_too(troubled: Troubled) -> None:
    api = troubled.api
    sale_id = await api.sale()
    await api.redis.flushall()
    reply = await api.admin("GET", f"/sales/{sale_id}")
    assert (reply.status, reply.code) == (503, "recovering"), "it may be lost"
    room = Room(api.redis)
    await room.say_whole(await room.instance())  # as admission does: Postgres never heard of it

    async def unknown() -> bool:
        said = [await api.call("GET", f"/sales/{sale_id}"), await api.admin("GET", f"/sales/{sale_id}")]
        return {reply.code for reply in said} == {"unknown_sale"}

    await eventually(unknown)


async def test_a_stored_key_cannot_be_checked_without_redis_and_the_first_one_can(troubled: Troubled) -> None:
    api, pid = troubled.api, troubled.redis.pid("redis")
    key = (await api.admin("POST", "/keys", {"name": "somebody", "role": "viewer"})).json["key"]
    os.kill(pid, signal.SIGSTOP)
    try:
        reply = await api.admin("GET", "/sales/x/history", key=key)
        assert (reply.status, reply.code) == (503, "unavailable")
        assert (await api.admin("GET", "/sales/x/history")).json["detail"].startswith("The order service")
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_a_full_redis_takes_no_join_and_keeps_its_word(troubled: Troubled) -> None:
    api = troubled.api
    sale_id = await api.sale()
    first = await api.join(sale_id, "anna", request="r")
    await api.redis.config_set("maxmemory", 1)
    try:
        reply = await api.join(sale_id, "bert", request="r")
        assert (reply.status, reply.code) == (503, "unavailable")
    finally:
        await api.redis.config_set("maxmemory", 0)
    assert (await api.join(sale_id, "anna", request="r")).json == first.json
    assert (await api.join(sale_id, "bert", request="r")).json["number"] == 2


async def test_too_many_joins_are_refused_at_once(redis_url: str) -> None:
    more = {"GATEWAY_MAX_REQUESTS": "10", "GATEWAY_IN_FLIGHT_BATCHES": "1"}
    async with a_gateway(redis_url, **more) as api:
        sale_id = await api.sale(stock=500)
        replies = await asyncio.gather(*(api.join(sale_id, f"buyer-{number}") for number in range(200)))
        codes = Counter(reply.status for reply in replies)
        assert codes[202] >= 5
        assert codes[503] > 0
        assert {reply.code for reply in replies if reply.status == 503} == {"overloaded"}
        assert all("retry-after" in reply.headers for reply in replies if reply.status == 503)
        assert (await api.admin("GET", f"/sales/{sale_id}/stats")).json["joined"] == codes[202]


async def test_a_sale_that_surges_is_refused_before_parsing_and_takes_no_place_of_another(troubled: Troubled) -> None:
    patient = {"REDIS_TIMEOUT_S": "30", "GATEWAY_DEADLINE_S": "30"}
    async with a_gateway(troubled.redis.redis_url, GATEWAY_MAX_REQUESTS="8", **patient) as api:
        surge, calm = await api.sale(stock=500), await api.sale(stock=500)
        for sale_id in (surge, calm):
            assert (await api.join(sale_id, "first")).status == 202  # the gateway knows it now
        sample = api.gateway.metrics.registry.get_sample_value

        def under_way() -> float | None:
            return sample("fairline_requests_under_way")

        pid = troubled.redis.pid("redis")
        os.kill(pid, signal.SIGSTOP)
        try:
            stuck = [asyncio.create_task(api.join(surge, f"buyer-{number}")) for number in range(4)]
            await eventually(lambda: under_way() == 4)
            body = b'{"sku":"seat","buyer_id":"late"}'
            head = f"POST /sales/{surge}/tickets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n".encode()
            head += b"content-length: %d\r\n\r\n" % len(body)
            reader, writer = await asyncio.open_connection("127.0.0.1", api.gateway.settings.port)
            whole = {"route": "(door)", "method": "POST", "status": "503"}
            for refused in (1, 2):
                writer.write(head + body)
                answer = await reader.readuntil(b"}")
                assert answer.startswith(b"HTTP/1.1 503")
                assert b'"code":"overloaded"' in answer
                assert sample("fairline_requests_total", whole) == refused
            writer.write(head)  # in pieces: it is parsed, and refused all the same
            writer.write(body)
            assert b'"code":"overloaded"' in await reader.readuntil(b"}")
            reply = await api.join(surge, "later")
            assert (reply.status, reply.code) == (503, "overloaded")
            assert 1 <= int(reply.headers["retry-after"]) <= 3
            others = [asyncio.create_task(api.join(calm, f"buyer-{number}")) for number in range(2)]
            await eventually(lambda: under_way() == 6)
            assert (await api.call("GET", "/livez", check=False)).status == 200
        finally:
            os.kill(pid, signal.SIGCONT)
        assert [reply.status for reply in await asyncio.gather(*stuck, *others)] == [202] * 6
        await eventually(lambda: under_way() == 0)
        writer.write(head + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 202"), "the connection of before serves on"
        writer.close()


async def test_a_full_line_says_so(redis_url: str) -> None:
    async with a_gateway(redis_url, GATEWAY_MAX_WAITING="2") as api:
        sale_id = await api.sale(stock=50)
        replies = [await api.join(sale_id, f"buyer-{number}", request="r") for number in range(3)]
        assert [reply.status for reply in replies] == [202, 202, 503]
        assert replies[2].code == "line_full"
        assert (await api.join(sale_id, "buyer-0", request="r")).json == replies[0].json, "whoever has a place keeps it"
        assert (await api.join(sale_id, "another")).code == "line_full", "without a key, from the board or not"


async def test_a_slow_body_is_refused_after_its_time(api: Api, redis_url: str) -> None:
    sale_id = await api.sale()
    async with a_gateway(redis_url, GATEWAY_BODY_TIMEOUT_S="0.1") as hasty:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(hasty.url.rsplit(":")[-1]))
        head = f"POST /sales/{sale_id}/tickets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        writer.write(head.encode() + b"content-length: 50\r\n\r\n{")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"slow_body"' in answer
        writer.close()


async def test_two_gateways_are_one_line(api: Api, redis_url: str) -> None:
    async with a_gateway(redis_url) as other:
        sale_id = await api.sale(stock=100)
        pair = (api, other)
        replies = await asyncio.gather(
            *(pair[number % 2].join(sale_id, f"buyer-{number // 2}", request="r") for number in range(80))
        )
        assert Counter(reply.status for reply in replies) == {202: 40, 200: 40}
        by_ticket: dict[str, set[Any]] = {}
        for reply in replies:
            ticket = reply.json
            by_ticket.setdefault(ticket["ticket_id"], set()).add((ticket["token"], ticket["arrival"]))
        assert len(by_ticket) == 40
        assert all(len(told) == 1 for told in by_ticket.values())
        assert sorted(arrival for told in by_ticket.values() for _, arrival in told) == list(range(1, 41))


async def test_refusals_of_two_gateways_are_counted_together(api: Api, redis_url: str) -> None:
    async with a_gateway(redis_url) as other:
        sale_id = await api.sale(stock=0)
        for one in (api, other, api, other):
            assert (await one.join(sale_id, "anna")).code == "sold_out"

        async def counted() -> bool:
            counts = (await api.admin("GET", f"/sales/{sale_id}/stats")).json
            return bool(counts["refused"] == {"sold_out": 4} and counts["asked"] == 4)

        await eventually(counted)


async def test_a_change_at_one_gateway_is_seen_at_the_other_within_a_frame_or_so(api: Api, redis_url: str) -> None:
    async with a_gateway(redis_url) as other:
        sale_id = await api.sale(opened=False)
        assert (await other.join(sale_id, "anna")).code == "not_open"
        await api.admin("POST", f"/sales/{sale_id}/open")

        async def joined() -> bool:
            return (await other.join(sale_id, "anna")).status in {200, 202}

        await eventually(joined)


async def test_more_stock_ends_the_refusals(api: Api) -> None:
    sale = await SaleDriver.opened(api.redis, 0)
    assert (await api.join(sale.id, "anna")).code == "sold_out"
    await sale.set_stock(1, version=1)
    await sale.acknowledge()

    async def joined() -> bool:
        return (await api.join(sale.id, "anna")).status in {200, 202}

    await eventually(joined)
