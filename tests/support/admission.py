"""Admission in a test's hands: its settings, a Redis that fails on command, a shop to be asked, a whole controller."""

import asyncio
import hashlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from admission.app import start
from admission.settings import AdmissionSettings
from admission.stock import Admitted
from fairline.events import Fact, OrderPlaced
from fairline.ids import new_ticket_id
from fairline.runtime.settings import load
from tests.support.scripts import ALL_SCRIPTS, script_of
from tests.support.stack import PATIENCE_S

NOWHERE: Final = "127.0.0.1:1"
_SHARED: Final = {"redis_url", "kafka", "drain_s", "process", "redis_timeout_s", "internal_port", "order_service_url"}

T = TypeVar("T")


def admission_settings(**changed: object) -> AdmissionSettings:
    """The settings of a controller; servers that are not named are nowhere."""
    nowhere = {"redis_url": f"redis://{NOWHERE}/0", "kafka": NOWHERE, "order_service_url": f"http://{NOWHERE}"}
    values = nowhere | changed
    env = {
        f"FAIRLINE_{'' if name in _SHARED else 'ADMISSION_'}{name.upper()}": str(value)
        for name, value in values.items()
    }
    return load(AdmissionSettings, env)


def admitted(buyer: str = "ada", **changed: Any) -> Admitted:
    """A ticket under a lease."""
    values: dict[str, Any] = {"ticket_id": new_ticket_id(), "sku": "seat", "quantity": 1, "arrival": 1, "tries": 1}
    return Admitted(**values | {"buyer_id": buyer} | changed)


async def until(look: Callable[[], Awaitable[T]], *, within_s: float = PATIENCE_S) -> T:
    """What ``look`` gives as soon as that is true; fails with the last thing it gave."""
    deadline = time.monotonic() + within_s
    while not (found := await look()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:.0f} s; last: {found!r}")
        await asyncio.sleep(0.01)
    return found


class UnsteadyRedis:
    """A client that carries everything out, except where it was told to fail. Scripts are named, commands too."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._names = {(script := script_of(*each)).sha: script.name for each in ALL_SCRIPTS}
        self._lost: dict[str, int] = defaultdict(int)
        self._refused: dict[str, int] = defaultdict(int)
        self.away = False
        self.calls: list[str] = []

    @property
    def client(self) -> Redis:
        """As the services see it."""
        return cast("Redis", self)

    def lose(self, name: str, times: int = 1) -> None:
        """Carry the next calls out and lose their answers."""
        self._lost[name] += times

    def refuse(self, name: str, times: int = 1) -> None:
        """Fail the next calls without carrying them out."""
        self._refused[name] += times

    async def evalsha(self, sha: str, *arguments: Any) -> Any:
        """Run a script."""
        return await self._call(self._names.get(sha, "?"), self._redis.evalsha, sha, *arguments)

    async def eval(self, text: str, *arguments: Any) -> Any:
        """Run a script that the server does not know yet."""
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.calls.pop()  # it is the same call
        return await self._call(self._names.get(sha, "?"), self._redis.eval, text, *arguments)

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._redis, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            return await self._call(name, command, *arguments, **options)

        return call

    async def _call(self, name: str, command: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
        self.calls.append(name)
        if self.away or self._refused[name]:
            self._refused[name] = max(0, self._refused[name] - 1)
            raise RedisConnectionError(f"a test refuses {name}")
        reply = await command(*arguments, **options)
        if self._lost[name]:
            self._lost[name] -= 1
            raise RedisConnectionError(f"a test loses the answer of {name}")
        return reply


class Broker:
    """A Kafka that keeps what it is sent; acknowledges what ``acknowledges`` says."""

    def __init__(self) -> None:
        self.taken: list[Fact] = []
        self.offered = 0  # facts, also those that it has not taken yet
        self.acknowledges: Callable[[int, Fact], bool] = lambda _at, _fact: True
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, facts: Sequence[Fact], timeout_s: float) -> list[bool]:
        """As ``EventWriter.send``."""
        assert timeout_s > 0
        self.offered += len(facts)
        await self.gate.wait()
        self.taken += facts
        return [self.acknowledges(at, fact) for at, fact in enumerate(facts)]

    @property
    def orders(self) -> list[str]:
        """The tickets of the orders it was sent, in that order."""
        return [fact.ticket_id for fact in self.taken if isinstance(fact, OrderPlaced)]


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def yes(_: web.Request) -> web.StreamResponse:
    """The answer of a shop that sells to everybody."""
    return web.json_response({"accept": True})


@dataclass
class Shop:
    """A shop's endpoint; ``answer`` may be replaced at any time."""

    url: str = ""
    answer: Answer = yes
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Note the question, then answer it."""
        self.asked.append(msgspec.json.decode(await request.read()))
        self.keys.append(request.headers["Idempotency-Key"])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self.answer(request)
        finally:
            self.at_once -= 1


@asynccontextmanager
async def a_shop() -> AsyncIterator[Shop]:
    """A real server on a free port."""
    shop = Shop()
    app = web.Application()
    app.router.add_post("/check", shop.handle)
    server = TestServer(app)
    await server.start_server(shutdown_timeout=0.1)
    shop.url = str(server.make_url("/check"))
    try:
        yield shop
    finally:
        await server.close()


@asynccontextmanager
async def a_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client as admission has it."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


class RunningAdmission:
    """A whole controller, as its process runs it."""

    def __init__(self, settings: AdmissionSettings) -> None:
        self.stopping = asyncio.Event()
        self.task = asyncio.create_task(start(settings, self.stopping), name="admission")

    async def kill(self) -> None:
        """End it in the middle of whatever it does, as near to a kill as one process can come."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def stop(self) -> None:
        """As SIGTERM does; raises what it failed with."""
        self.stopping.set()
        await self.task


@asynccontextmanager
async def an_admission(settings: AdmissionSettings) -> AsyncIterator[RunningAdmission]:
    """Start a controller and stop it in the end."""
    running = RunningAdmission(settings)
    try:
        yield running
        if not running.task.cancelled():
            await running.stop()
    finally:
        await running.kill()
