"""``/livez``, ``/readyz`` and ``/metrics`` of every process: one small ASGI application, and a server for it.

``/livez`` answers as long as the event loop turns. ``/readyz`` asks what this process needs (each check bounded in
time, answers kept for a second) and names what is missing, and so does the metric ``fairline_missing``. It stays 200
while a sale is ``recovering``: the process is fine.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from fairline.runtime import logs
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import cancelled
from fairline.runtime.wire_limits import LimitedProtocol

CHECK_TIMEOUT_S: Final = 2.0
KEEP_S: Final = 1.0

Check = Callable[[], Awaitable[object]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Asgi = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


class Health:
    """The ASGI application. ``checks`` are what this process cannot work without, by name."""

    PATHS: Final = ("/livez", "/readyz", "/metrics")

    def __init__(self, metrics: Metrics, checks: Mapping[str, Check]) -> None:
        self._metrics = metrics
        self._checks = checks
        self._known: dict[str, str] = {}
        self._known_at = float("-inf")
        self._asking = asyncio.Lock()
        self.draining = False

    async def __call__(self, scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        """Answer one request; 404 for other paths."""
        if scope["type"] != "http":
            return
        status, kind, body = await self.answer(scope["path"])
        headers = [(b"content-type", kind.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a path."""
        if path == "/livez":
            return 200, "text/plain", b"ok\n"
        if path == "/metrics":
            faults = await self._faults()
            for what in self._checks:
                self._metrics.missing.labels(what).set(what in faults)
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry)
        if path == "/readyz":
            faults = await self._faults()
            ready = not faults and not self.draining
            body = {"ready": ready, "draining": self.draining, "missing": faults}
            return 200 if ready else 503, "application/json", msgspec.json.encode(body)
        return 404, "text/plain", b"there are /livez, /readyz and /metrics\n"

    async def _faults(self) -> dict[str, str]:
        async with self._asking:
            if time.monotonic() - self._known_at > KEEP_S:
                said = await asyncio.gather(*(self._ask(check) for check in self._checks.values()))
                self._known = {name: fault for name, fault in zip(self._checks, said, strict=True) if fault}
                self._known_at = time.monotonic()
        return self._known

    @staticmethod
    async def _ask(check: Check) -> str:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await check()
        except TimeoutError:
            return f"no answer in {CHECK_TIMEOUT_S:g} s"
        except Exception as error:  # noqa: BLE001 - whatever it is, the process is not ready, and says why
            return f"{type(error).__name__}: {error}"
        return ""


class HttpServer:
    """An ASGI application on one port, as a service. Drains for at most ``drain_s`` when it stops."""

    def __init__(
        self,
        app: Asgi,
        *,
        host: str,
        port: int,
        drain_s: float = 3.0,
        backlog: int = 2048,
        protocol: type[LimitedProtocol] = LimitedProtocol,
    ) -> None:
        self._config = uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="none",
            http=protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            proxy_headers=False,  # nothing is decided by a client's address
            log_config=None,
            server_header=False,
            date_header=False,
            backlog=backlog,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        self.server = _Server(self._config)

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until stopping; raises ``OSError`` when the port cannot be had."""
        serving = asyncio.create_task(self.server.serve(), name="http")
        stop = asyncio.create_task(stopping.wait(), name="stopping")
        try:
            await asyncio.wait({serving, stop}, return_when=asyncio.FIRST_COMPLETED)
            self.server.should_exit = True
            await serving
        except SystemExit as error:  # uvicorn leaves the process when it cannot bind
            raise OSError(f"cannot listen on {self._config.host}:{self._config.port}") from error
        finally:
            stop.cancel()
            if not serving.done():  # this call was cancelled: nobody is given time any more
                try:
                    await self._begun(serving)
                finally:
                    self.server.close()
                    await cancelled(serving)
        if not stopping.is_set():
            logs.get(__name__).error("the http server ended by itself")
            raise OSError(f"the server on {self._config.host}:{self._config.port} ended by itself")

    async def _begun(self, serving: asyncio.Task[None]) -> None:
        """Wait out the start, a few turns of the loop: cut off in the middle of it, asyncio loses the bound socket."""
        while not (self.server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has a flag, and no event
            await asyncio.sleep(0.001)


class _Server(uvicorn.Server):
    """Signals belong to the process (``fairline.runtime.services``), not to one of its servers."""

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()

    def close(self) -> None:
        """Close every socket now."""
        for server in getattr(self, "servers", ()):  # there are none before it has started
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
