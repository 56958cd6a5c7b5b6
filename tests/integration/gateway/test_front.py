"""What every answer has: request ids, security headers, metrics; health and pages; a start that is refused."""

import asyncio
import signal
import sys
from functools import partial
from typing import Any

import aiohttp
import pytest

from tests.support.gateway import TOKEN_KEYS, Api, a_gateway, free_port
from tests.support.stack import eventually, servers


async def test_every_answer_has_a_request_id_and_guards(api: Api) -> None:
    sale_id = await api.sale()
    for path in (f"/sales/{sale_id}", "/nowhere", f"/room/{sale_id}", "/openapi.json", "/admin/sales"):
        reply = await api.call("GET", path)
        assert reply.headers["x-request-id"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
        assert "server" not in reply.headers


async def test_a_request_id_is_kept_where_it_is_one(api: Api) -> None:
    kept = await api.call("GET", "/nowhere", x_request_id="shop-7.A_b")
    assert kept.headers["x-request-id"] == "shop-7.A_b"
    assert kept.json["instance"] == "urn:fairline:request:shop-7.A_b"
    for odd in ("a b", "x" * 65, "a;b"):
        assert (await api.call("GET", "/nowhere", x_request_id=odd)).headers["x-request-id"] != odd


async def test_nothing_is_at_an_unknown_address(api: Api) -> None:
    for path in ("/nowhere", "/sales", "/static/../settings.py", "/static/%2e%2e/settings.py", "/static/", "//"):
        reply = await api.call("GET", path, check=False)
        assert (reply.status, reply.code) == (404, "not_found"), path


async def test_health_and_metrics_are_on_the_same_port(api: Api) -> None:
    sale_id = await api.sale()
    await api.join(sale_id, "anna")
    assert (await api.call("GET", "/livez", check=False)).body == b"ok\n"
    assert (await api.call("GET", "/readyz", check=False)).json["ready"] is True
    text = (await api.call("GET", "/metrics", check=False)).body.decode()
    assert 'fairline_requests_total{method="POST",route="/sales/{sale_id}/tickets",status="202"}' in text
    assert 'fairline_joins_total{word="JOINED"}' in text
    assert sale_id not in text


async def test_names_from_outside_are_no_labels(api: Api) -> None:
    await api.call("GET", "/some/address/of/a/scanner")
    await api.call("BREW", "/coffee", check=False)
    text = (await api.call("GET", "/metrics", check=False)).body.decode()
    assert "scanner" not in text
    assert "BREW" not in text


async def test_head_is_get_without_a_body(api: Api) -> None:
    sale_id = await api.sale()
    reply = await api.call("HEAD", f"/sales/{sale_id}", check=False)
    assert (reply.status, reply.body) == (200, b"")
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await api.call("HEAD", path, check=False)).status == 200, path


async def test_other_sites_pages_may_call_only_where_they_are_allowed(redis_url: str) -> None:
    shop = "https://shop.example"
    async with a_gateway(redis_url, GATEWAY_CORS_ORIGINS=shop) as api:
        sale_id = await api.sale()
        asked: Any = {"origin": shop, "access_control_request_method": "POST"}
        preflight = await api.call("OPTIONS", f"/sales/{sale_id}/tickets", **asked)
        assert preflight.status == 204
        assert preflight.headers["access-control-allow-origin"] == shop
        assert "idempotency-key" in preflight.headers["access-control-allow-headers"]
        body: Any = {"sku": "seat", "buyer_id": "anna"}
        joined = await api.call("POST", f"/sales/{sale_id}/tickets", body, origin=shop)
        assert (joined.status, joined.headers["access-control-allow-origin"]) == (202, shop)
        other = await api.call("GET", f"/sales/{sale_id}", origin="https://evil.example")
        assert "access-control-allow-origin" not in other.headers


async def test_the_pages_are_there_and_run_nothing_from_elsewhere(api: Api) -> None:
    sale_id = await api.sale()
    for path in (f"/room/{sale_id}", "/console", "/docs"):
        reply = await api.call("GET", path)
        assert reply.status == 200
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        policy = reply.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "connect-src 'self' ws://127.0.0.1:9;" in policy
        assert b"<script>" not in reply.body
        assert b"https://" not in reply.body.replace(b"https://www.w3.org", b"")
        again = await api.call("GET", path, if_none_match=reply.headers["etag"])
        assert (again.status, again.body) == (304, b"")


async def test_a_room_that_there_is_not_has_a_page_of_its_own(api: Api) -> None:
    reply = await api.call("GET", "/room/no-such-sale")
    assert reply.status == 404
    assert reply.headers["content-type"] == "text/html; charset=utf-8"


async def run_gateway(**env: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        env={f"FAIRLINE_{name}": value for name, value in env.items()},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, said.decode()


def process_settings(redis_url: str) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "TOKEN_KEYS": TOKEN_KEYS,
        "PORT": str(free_port()),
        "GATEWAY_URL": "http://127.0.0.1:1",
        "NOTIFIER_URL": "ws://127.0.0.1:1",
        "ORDER_SERVICE_URL": "http://127.0.0.1:1",
    }


async def test_without_any_operator_key_nothing_starts() -> None:
    async with servers("redis") as running:
        code, said = await run_gateway(**process_settings(running.redis_url))
        assert code == 2
        assert "FAIRLINE_OPERATOR_KEY" in said


async def test_missing_settings_are_named(redis_url: str) -> None:
    settings = process_settings(redis_url)
    del settings["TOKEN_KEYS"]
    code, said = await run_gateway(**settings, OPERATOR_KEY="too short")
    assert code == 2
    assert "FAIRLINE_TOKEN_KEYS: is required" in said
    assert "FAIRLINE_OPERATOR_KEY" in said
    assert "too short" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_stops_when_it_is_asked_to(redis_url: str, number: signal.Signals) -> None:
    settings = process_settings(redis_url) | {"OPERATOR_KEY": "fl_0123456789abcdefghijklmnopqrstuvwx"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env={f"FAIRLINE_{name}": value for name, value in settings.items()}
    )

    async def serving() -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", int(settings["PORT"]))
        writer.close()
        return True

    await eventually(serving)
    process.send_signal(number)
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def test_a_gateway_that_leaves_serves_on_and_sends_its_clients_elsewhere(redis_url: str) -> None:
    settings = process_settings(redis_url) | {
        "OPERATOR_KEY": "fl_0123456789abcdefghijklmnopqrstuvwx",
        "GATEWAY_LINGER_S": "60",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", env={f"FAIRLINE_{name}": value for name, value in settings.items()}
    )
    at = f"http://127.0.0.1:{settings['PORT']}"

    async def ready(status: int) -> bool:
        async with session.get(f"{at}/readyz") as answer:
            return answer.status == status

    async with aiohttp.ClientSession() as session:
        await eventually(partial(ready, 200))
        async with session.get(f"{at}/sales/none") as before:
            assert (before.status, before.headers.get("connection")) == (404, None)
        process.send_signal(signal.SIGTERM)
        await eventually(partial(ready, 503))
        for _ in range(2):  # on the old connection, and on a new one
            async with session.get(f"{at}/sales/none") as leaving:
                assert (leaving.status, leaving.headers["connection"]) == (404, "close")
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 30) == 0
