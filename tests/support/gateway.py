"""A gateway in this process, on a real Redis and a real port, and a client that talks HTTP to it.

Postgres is played by hand: ``acknowledging`` answers every change of a sale, as the order service would.
"""

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from redis.asyncio import Redis

from admission.stock import Stock
from fairline.runtime.health import HttpServer
from fairline.runtime.services import pause
from fairline.runtime.settings import load
from fairline.store.client import connect
from fairline.store.keys import SaleKeys
from fairline.store.room import Room
from gateway.app import Gateway
from gateway.settings import GatewaySettings
from tests.support.openapi import Contract
from tests.support.sale import a_name

TOKEN_KEYS: Final = "test:" + "a secret of the tests that is long enough"
FIRST_KEY: Final = "fl_the-first-key-of-the-tests-0123456789"


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    json: Any = field(default=None)

    @property
    def code(self) -> str:
        """Of the problem."""
        return str(self.json["code"])


@dataclass
class Api:
    """A gateway and a client of it."""

    url: str
    gateway: Gateway
    redis: Redis
    session: aiohttp.ClientSession
    contract: Contract

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        data: Any = None,
        key: str | None = None,
        check: bool = True,
        **headers: str,
    ) -> Reply:
        """One request: ``body`` goes as JSON, ``data`` as it is, ``key`` as bearer; headers with ``_`` for ``-``.

        The answer must be one that the OpenAPI document allows.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            sent.setdefault("content-type", "application/json")
        async with self.session.request(method, self.url + path, data=data, headers=sent) as answer:
            content = await answer.read()
            said = json.loads(content) if "json" in answer.content_type and content else None
            if check:
                self.contract.check(method, path, answer.status, answer.content_type, said)
            return Reply(answer.status, answer.headers, content, said)

    async def admin(self, method: str, path: str, body: Any = None, *, key: str = FIRST_KEY) -> Reply:
        """A request of an operator, the first one where no key is given."""
        return await self.call(method, f"/admin{path}", body, key=key)

    async def join(
        self, sale_id: str, buyer: str, sku: str = "seat", *, request: str | None = None, **more: Any
    ) -> Reply:
        """A join, with an Idempotency-Key where ``request`` is given."""
        headers: Any = {} if request is None else {"idempotency_key": request}
        return await self.call("POST", f"/sales/{sale_id}/tickets", {"sku": sku, "buyer_id": buyer, **more}, **headers)

    async def sale(self, *, opened: bool = True, stock: int = 3, **definition: Any) -> str:
        """A sale of one sku, ``seat``, open unless told otherwise; its id."""
        sale_id = a_name()
        body = {"sale_id": sale_id, "name": "A sale", "items": [{"sku": "seat", "name": "Seat", "stock": stock}]}
        made = await self.admin("POST", "/sales", body | definition)
        assert made.status == 201, made.body
        await self.acknowledge(sale_id)
        if opened:
            reply = await self.admin("POST", f"/sales/{sale_id}/open")
            assert reply.status == 200, reply.body
        return sale_id

    async def acknowledge(self, sale_id: str) -> None:
        """Postgres knows the sale as it stands."""
        await acknowledge(self.redis, sale_id)


async def acknowledge(redis: Redis, sale_id: str) -> None:
    """What admission does when the order service says that a sale is applied."""
    skus = await Room(redis).skus(sale_id)
    raw: Any = redis
    version = await raw.hget(SaleKeys(sale_id).meta, "version")
    if skus is not None and version is not None:
        await Stock(redis, sale_id, skus).applied(version=int(version), epoch=0)


@asynccontextmanager
async def acknowledging(redis: Redis, sale_id: str) -> AsyncIterator[None]:
    """Acknowledge every change of a sale, a moment later."""

    stopping = asyncio.Event()

    async def go_on() -> None:
        while not stopping.is_set():
            await acknowledge(redis, sale_id)
            await pause(stopping, 0.02)

    task = asyncio.create_task(go_on(), name="postgres, played")
    try:
        yield
    finally:
        # Not by cancelling: on Python 3.11 a Redis call may swallow that (``asyncio.wait_for`` below it).
        stopping.set()
        await task


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def environment_of(redis_url: str, port: int, **more: str) -> dict[str, str]:
    """The environment of a gateway for tests; ``more`` are variables without their prefix."""
    env = {
        "REDIS_URL": redis_url,
        "TOKEN_KEYS": TOKEN_KEYS,
        "OPERATOR_KEY": FIRST_KEY,
        "PORT": str(port),
        "GATEWAY_URL": f"http://127.0.0.1:{port}",
        "NOTIFIER_URL": "ws://127.0.0.1:9",
        "ORDER_SERVICE_URL": "http://127.0.0.1:9",
        "PROCESS": f"gateway-{secrets.token_hex(3)}",
        "LOG_LEVEL": "warning",
        **more,
    }
    return {f"FAIRLINE_{name}": value for name, value in env.items()}


def settings_of(redis_url: str, port: int, **more: str) -> GatewaySettings:
    """The same, read."""
    return load(GatewaySettings, environment_of(redis_url, port, **more))


@asynccontextmanager
async def a_gateway(redis_url: str, **more: str) -> AsyncIterator[Api]:
    """A gateway that serves until the block ends."""
    settings = settings_of(redis_url, free_port(), **more)
    redis = connect(redis_url, name=settings.process, timeout_s=settings.redis_timeout_s)
    gateway = Gateway(settings, redis)
    stopping = asyncio.Event()
    server = HttpServer(gateway.app, host="127.0.0.1", port=settings.port, drain_s=1, protocol=gateway.protocol)
    tasks = [asyncio.create_task(service.run(stopping)) for service in (server, gateway, gateway.tallies)]
    room = Room(redis)
    await room.say_whole(await room.instance())  # as admission does once it has seen that no sale is lost
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=200)) as session:
        try:
            async with asyncio.timeout(10):
                while not server.server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(0.005)
            yield Api(settings.gateway_url, gateway, redis, session, Contract(gateway.document))
        finally:
            await session.close()
            stopping.set()
            await asyncio.gather(*tasks)
            await gateway.records.close()
            await redis.aclose()
