"""What is in hand when a gateway is asked to stop is finished, and what cannot be is told so."""

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.gateway import FIRST_KEY, environment_of, free_port
from tests.support.sale import a_name
from tests.support.stack import eventually


@dataclass
class Stoppable:
    """A gateway in a process of its own."""

    url: str
    process: Process
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, str, Any]:
        """Status, request id and JSON."""
        async with self.session.request(method, self.url + path, json=body) as answer:
            return answer.status, answer.headers.get("x-request-id", ""), await answer.json(content_type=None)

    async def stopping(self) -> None:
        """Ask it to stop; returns when it takes no connection any more."""
        self.process.send_signal(signal.SIGTERM)
        await eventually(self._takes_nobody)

    async def _takes_nobody(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))
        except ConnectionError:
            return True
        writer.close()
        return False


@asynccontextmanager
async def a_process(redis_url: str, **more: str) -> AsyncIterator[Stoppable]:
    port = free_port()
    env = environment_of(redis_url, port, GATEWAY_LINGER_S="0", **more)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", env=env)
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {FIRST_KEY}"}) as session:
        one = Stoppable(f"http://127.0.0.1:{port}", process, session)

        async def serving() -> bool:
            async with session.get(f"{one.url}/readyz") as answer:
                return answer.status == 200

        try:
            await eventually(serving)
            yield one
            assert await asyncio.wait_for(process.wait(), 30) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_what_the_order_service_was_asked_before_the_stop_is_answered(redis_url: str) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slowly(_: web.Request) -> web.Response:
        asked.set()
        await go.wait()
        return web.json_response({"dead_letters": [], "next": None})

    app = web.Application()
    app.router.add_get("/internal/dead-letters", slowly)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        url = f"http://127.0.0.1:{port}"
        async with a_process(redis_url, ORDER_SERVICE_URL=url, DRAIN_S="30") as one:
            asking = asyncio.create_task(one.call("GET", "/admin/dead-letters"))
            await asked.wait()
            await one.stopping()
            go.set()
            status, _, said = await asking
            assert (status, said) == (200, {"dead_letters": [], "next": None})
    finally:
        await runner.cleanup()


async def test_what_cannot_be_finished_in_time_is_told_so_in_a_problem(redis_url: str) -> None:
    async with a_process(redis_url, GATEWAY_ACKNOWLEDGE_S="60", DRAIN_S="1") as one:
        sale_id = a_name()
        items = [{"sku": "seat", "name": "Seat", "stock": 1}]
        status, _, _ = await one.call("POST", "/admin/sales", {"sale_id": sale_id, "name": "A", "items": items})
        assert status == 201
        opening = asyncio.create_task(one.call("POST", f"/admin/sales/{sale_id}/open"))  # nobody acknowledges it
        done, _ = await asyncio.wait({opening}, timeout=0.3)
        assert not done
        await one.stopping()
        status, request_id, said = await opening
        assert (status, said["code"]) == (503, "unavailable")
        assert said["instance"].endswith(request_id)
        assert request_id
