"""Nothing starts on a Redis that may throw tickets away (L7), nor with token keys that cannot sign.

And what a Redis says that takes nothing now is an outage, not a fault.
"""

import asyncio
import os
import sys
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from fairline.errors import UnavailableError, UnfitServerError
from fairline.store import client
from fairline.store.client import answering, check, connect, refuse_unfit
from tests.support.stack import PATIENCE_S, eventually, servers

SECRET = "0123456789abcdef" * 2


async def run_service(name: str, redis_url: str, **more: str) -> tuple[int, str]:
    settings = {
        "FAIRLINE_REDIS_URL": redis_url,
        "FAIRLINE_KAFKA": "127.0.0.1:1",
        "FAIRLINE_TOKEN_KEYS": f"k:{SECRET}",
        "FAIRLINE_OPERATOR_KEY": "0123456789abcdefghijklmnopqrstuvwxyz-ABCDEF",
        "FAIRLINE_GATEWAY_URL": "http://127.0.0.1:1",
        "FAIRLINE_NOTIFIER_URL": "ws://127.0.0.1:1",
        "FAIRLINE_ORDER_SERVICE_URL": "http://127.0.0.1:1",
        "FAIRLINE_PORT": "0",
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FAIRLINE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", name),
        env=kept | settings | more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), 30)
    except TimeoutError:
        process.kill()
        raise
    return process.returncode or 0, printed.decode()


async def test_a_redis_that_may_evict_is_refused_by_those_who_write_l7() -> None:
    async with servers("redis") as running:
        redis = connect(running.redis_url, name="test")
        try:
            await check(redis)
            await redis.config_set("maxmemory-policy", "allkeys-lru")
            with pytest.raises(UnfitServerError, match="set maxmemory-policy noeviction"):
                await refuse_unfit(redis)
            for service in ("gateway", "admission"):
                code, printed = await run_service(service, running.redis_url)
                assert code == 1, printed
                assert "set maxmemory-policy noeviction" in printed
                assert "Traceback" not in printed
        finally:
            await redis.aclose()


async def test_a_redis_that_is_away_is_no_reason_not_to_start() -> None:
    redis = connect("redis://127.0.0.1:1/0", name="test")
    try:
        await refuse_unfit(redis)
        with pytest.raises(UnavailableError):
            await check(redis)
    finally:
        await redis.aclose()


async def is_busy(redis: Redis) -> bool:
    try:
        with answering():
            await redis.exists("a")
    except UnavailableError as error:
        return "BUSY" in str(error)
    return False


async def test_a_redis_that_runs_a_script_of_somebody_else_is_an_outage_to_a_pipeline_too() -> None:
    async with servers("redis") as running:
        redis, other = (connect(running.redis_url, name="test", timeout_s=20) for _ in range(2))
        raw: Any = redis  # its stubs take a pipeline's calls for calls that are awaited
        await redis.config_set("busy-reply-threshold", 20)
        endless = asyncio.ensure_future(other.eval("while true do end", 0))
        try:
            await eventually(lambda: is_busy(redis))
            for transaction in (False, True):
                with pytest.raises(UnavailableError, match="BUSY"), answering():
                    await raw.pipeline(transaction=transaction).exists("a").execute()
        finally:
            await redis.script_kill()
            with pytest.raises(ResponseError, match="killed"):
                await endless
            await redis.aclose()
            await other.aclose()


@pytest.mark.parametrize("service", ["gateway", "notifier"])
async def test_token_keys_that_cannot_sign_are_named_without_telling_the_secret(service: str) -> None:
    code, printed = await run_service(service, "redis://127.0.0.1:1/0", FAIRLINE_TOKEN_KEYS="k:short-secret")
    assert code == 2
    assert "FAIRLINE_TOKEN_KEYS" in printed
    assert "fewer than 32 bytes" in printed
    assert "short-secret" not in printed


async def test_somebody_else_at_the_address_of_redis_is_an_outage_that_says_so() -> None:
    async def speak_http(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(speak_http, "127.0.0.1", 0) as server:
        redis = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", name="test")
        try:
            with pytest.raises(UnavailableError, match="What answers is no Redis"), answering():
                await redis.hget("a", "b")
        finally:
            await redis.aclose()


async def test_a_script_whose_answer_is_lost_is_not_sent_again_by_the_client() -> None:
    asked = 0

    async def hang_up_on_scripts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while (said := await reader.read(65536)) and b"EVAL" not in said:
            writer.write(b"+OK\r\n" * said.count(b"CLIENT"))
        asked += b"EVAL" in said
        writer.close()

    async with await asyncio.start_server(hang_up_on_scripts, "127.0.0.1", 0) as server:
        redis = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", name="test", timeout_s=20)
        try:
            with pytest.raises(UnavailableError), answering():
                await redis.eval("return 1", 0)
            assert asked == 1
        finally:
            await redis.aclose()


async def test_whoever_finds_every_connection_in_use_waits_for_a_bounded_time(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "POOL_WAIT_S", 0.05)
    redis = connect(redis_url, name="test", max_connections=1)
    try:
        async with redis.pipeline() as pipe:
            await pipe.watch("x")  # holds it
            async with asyncio.timeout(PATIENCE_S):
                with pytest.raises(UnavailableError), answering():
                    await redis.exists("x")
    finally:
        await redis.aclose()
