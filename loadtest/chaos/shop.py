"""A shop to ask, that takes its time: in between, those who asked may be killed."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from fairline.local.ports import LOOPBACK

THINKS_S: Final = 0.1
_SHARE: Final = 10


@asynccontextmanager
async def a_shop() -> AsyncIterator[str]:
    """Where it is. Declines a tenth, the same answer for the same ticket."""

    async def check(request: web.Request) -> web.Response:
        await asyncio.sleep(THINKS_S)
        accept = zlib.crc32(request.headers["Idempotency-Key"].encode()) % _SHARE != 0
        return web.json_response({"accept": accept, "reason": "payment_declined"})

    app = web.Application()
    app.router.add_post("/check", check)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, 0)
        await site.start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}/check"
    finally:
        await runner.cleanup()
