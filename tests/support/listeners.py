"""Buyers who listen over a WebSocket, and a notifier in this process for them to listen to."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from fairline.frames import SUBPROTOCOL
from fairline.runtime.metrics import Metrics
from fairline.runtime.settings import load
from fairline.tokens import Claims, TokenKeys
from notifier.app import start
from notifier.settings import NotifierSettings
from tests.support.stack import PATIENCE_S

KEYS: Final = "first:0123456789abcdef0123456789abcdef"
WAIT_S: Final = PATIENCE_S

Frame = dict[str, Any]


def token_of(sale_id: str, ticket_id: str, *, sku: str = "seat", keys: str = KEYS) -> str:
    """What the gateway gives the buyer of this ticket."""
    claims = Claims(sale_id=sale_id, sku=sku, buyer_id="anna", ticket_id=ticket_id, arrival=1, number=1)
    return TokenKeys.parse(keys).sign(claims)


@dataclass
class RunningNotifier:
    """A notifier that clients can reach."""

    url: str
    metrics: Metrics
    stopping: asyncio.Event
    task: asyncio.Task[None]

    def at(self, sale_id: str, ticket_id: str) -> str:
        """The address of a ticket."""
        return f"{self.url}/sales/{sale_id}/tickets/{ticket_id}"

    def count(self, name: str, **labels: str) -> float:
        """The value of a metric now."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def a_notifier(redis_url: str, **settings: object) -> AsyncIterator[RunningNotifier]:
    """One copy with quick ticks; ``settings`` are its own (``tick_ms=...``) or shared ones (``drain_s=...``).

    It waits so long for Redis that a busy machine never makes it say ``recovering``.
    """
    own = {"tick_ms": 40, "early_ms": 5, "done_grace_s": 0.05, "patience_ms": 10_000} | settings
    names = {name: field.alias or name for name, field in NotifierSettings.model_fields.items()}
    env = {
        "FAIRLINE_REDIS_URL": redis_url,
        "FAIRLINE_TOKEN_KEYS": KEYS,
        "FAIRLINE_PORT": "0",
    } | {names.get(name) or f"FAIRLINE_NOTIFIER_{name.upper()}": str(value) for name, value in own.items()}
    metrics, stopping = Metrics(), asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        start(load(NotifierSettings, env), metrics=metrics, stopping=stopping, listening=port.set_result)
    )
    waiting: set[asyncio.Future[Any]] = {task, port}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=WAIT_S)
    if task.done():
        task.result()
    try:
        yield RunningNotifier(f"ws://127.0.0.1:{port.result()}", metrics, stopping, task)
    finally:
        stopping.set()
        await task


class Listener:
    """A client that keeps what it heard."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.heard: list[Frame] = []

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str, token: str | None, **options: Any) -> AsyncIterator[Self]:
        """Connect with the token as a subprotocol; with none, say nothing."""
        offered = None if token is None else [Subprotocol(SUBPROTOCOL), Subprotocol(token)]
        # Without a bound of its own: with one, a test that does not read for a while is a slow client.
        async with connect(
            url, subprotocols=offered, compression=None, proxy=None, max_queue=None, **options
        ) as socket:
            yield cls(socket)

    async def hear(self, fits: Callable[[Frame], object]) -> Frame:
        """The next frame that fits; fails with everything heard when none comes."""
        try:
            async with asyncio.timeout(WAIT_S):
                while True:
                    frame = json.loads(await self.socket.recv())
                    self.heard.append(frame)
                    if fits(frame):
                        return dict(frame)
        except (TimeoutError, ConnectionClosed) as error:
            raise AssertionError(f"not heard before {error!r}; heard: {self.heard[-20:]}") from error

    async def ticket(self, state: str | None = None) -> Frame:
        """The next ticket frame, or the next with this state."""
        return await self.hear(lambda frame: frame["type"] == "ticket" and state in (None, frame["state"]))

    async def progress(self, fits: Callable[[Frame], object] = lambda _: True) -> Frame:
        """The next progress frame (that fits)."""
        return await self.hear(lambda frame: frame["type"] == "progress" and fits(frame))

    async def closed(self) -> int | None:
        """The code with which the server closed; frames until then are kept."""
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionClosed):
                while True:
                    self.heard.append(json.loads(await self.socket.recv()))
        return self.socket.close_code

    def states(self) -> list[str]:
        """Of all ticket frames heard."""
        return [frame["state"] for frame in self.heard if frame["type"] == "ticket"]
