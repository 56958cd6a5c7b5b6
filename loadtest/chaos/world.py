"""What is broken: a whole local stack in this process's hands, with a proxy on every wire between two of its parts.

    async with World(folder) as world:
        os.kill(world.pid("admission-2"), SIGKILL)        # the stack brings it back
        world.wires["admission>redis"].cut()

A wire is named ``client>server``; ``buyers>gateway-2`` is one too. Servers are reached around the proxies by the
addresses of ``world``, for those who look and do not take part. The stack ends with the block, and with this process.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import aiohttp

from fairline.local import postgres_server
from fairline.local.folder import DataFolder
from fairline.local.ports import LOOPBACK, choose
from fairline.local.servers import ALL
from fairline.local.stack import Stack
from loadtest.chaos.kafka_wire import PublishAnswers, client_id
from loadtest.chaos.proxy import Proxy, Wire

LOOKS_EVERY_S: Final = 0.1
LOOKS_WITHIN_S: Final = 3.0
SERVERS: Final = ALL
COPIES: Final = {"gateway": 2, "admission": 2, "order_service": 2, "notifier": 2}
SERVICES: Final = tuple(f"{name}{copy}" for name in COPIES for copy in ("", "-2"))
PROCESSES: Final = (*SERVICES, *SERVERS)
# Which service uses which server; order_service is one to those who ask it what Postgres knows.
_USES: Final = {
    "gateway": ("redis", "order_service"),
    "admission": ("redis", "kafka", "order_service"),
    "order_service": ("kafka", "postgres"),
    "notifier": ("redis",),
}
_FOR_BUYERS: Final = ("gateway", "gateway-2", "notifier", "notifier-2")
_PAIRS: Final = (
    *((service, server) for service in SERVICES for server in _USES[service.removesuffix("-2")]),
    *(("buyers", service) for service in _FOR_BUYERS),
)
WIRES: Final = tuple(f"{client}>{server}" for client, server in _PAIRS)

# Short where the defaults are made for a busy day, so that a round heals within its minute; what must hold is the same.
QUICK: Final = {
    "FAIRLINE_REDIS_TIMEOUT_S": "1.5",
    "FAIRLINE_KAFKA_SESSION_S": "2.5",
    "FAIRLINE_GATEWAY_ACKNOWLEDGE_S": "3",
    "FAIRLINE_NOTIFIER_DONE_GRACE_S": "0.2",
    # Every frame to everybody goes through a proxy of the process that also plays everybody.
    "FAIRLINE_NOTIFIER_TICK_MS": "1000",
    "FAIRLINE_NOTIFIER_EARLY_MS": "400",
    "FAIRLINE_NOTIFIER_RECONNECT_SPREAD_S": "0.5",
    "FAIRLINE_ADMISSION_LEASE_MS": "1200",
    "FAIRLINE_ADMISSION_MARGIN_MS": "200",
    "FAIRLINE_ADMISSION_RELAY_TIMEOUT_MS": "1500",
    "FAIRLINE_ADMISSION_REDRIVE_AFTER_MS": "1000",
    "FAIRLINE_ADMISSION_REDRIVE_LONGEST_MS": "4000",
    "FAIRLINE_ADMISSION_MAX_TRIES": "10",
    "FAIRLINE_ADMISSION_RECOVER_DRAIN_S": "2",
    "FAIRLINE_ADMISSION_VALIDATOR_TRIES": "1",
    # Not while a round is read, but a run of a hundred rounds need not serve a hundred sales.
    "FAIRLINE_ADMISSION_ARCHIVE_AFTER_S": "60",
    "FAIRLINE_ADMISSION_BREAKER_REST_MS": "300",
    "FAIRLINE_ORDER_SERVICE_PUBLISH_TIMEOUT_MS": "1500",
    "FAIRLINE_ORDER_SERVICE_ACQUIRE_TIMEOUT_MS": "1500",
    "FAIRLINE_ORDER_SERVICE_COMMAND_TIMEOUT_MS": "3000",
}


@dataclass(frozen=True)
class NamedWire:
    """A wire and its proxy. ``wire`` is the state of it, ``cut`` what cannot be undone."""

    proxy: Proxy
    name: str

    @property
    def wire(self) -> Wire:
        """Its state."""
        return self.proxy.wire(self.name)

    def cut(self) -> int:
        """Reset its connections; how many there were."""
        return self.proxy.cut(self.name)


class World:
    """One stack and its wires. Use ``async with``, once."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = DataFolder(folder)
        self.wires: dict[str, NamedWire] = {}
        self.said: list[str] = []
        self._environ = {name: text for name, text in os.environ.items() if not name.startswith("FAIRLINE_")}
        self._environ |= _providers() | QUICK | dict(environ or {})
        self._proxies: list[Proxy] = []
        self._ports: dict[str, int] = {}
        self._own: dict[str, dict[str, str]] = {name: {} for name in SERVICES}
        self._stack: Stack | None = None

    async def __aenter__(self) -> Self:
        self.folder.open()
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    @property
    def stack(self) -> Stack:
        """The stack itself."""
        assert self._stack is not None  # noqa: S101 - entered
        return self._stack

    def pid(self, name: str) -> int | None:
        """The present process of a service or server; none while it is held down."""
        return self.stack.supervisor.pid(name)

    def url(self, name: str) -> str:
        """How buyers reach a gateway or a notifier: through its proxy."""
        scheme = "ws" if name.startswith("notifier") else "http"
        return f"{scheme}://{LOOPBACK}:{self._ports[f'buyers>{name}']}"

    def around(self, name: str) -> str:
        """The address of a server, or of a service's public port, with no proxy in between."""
        match name:
            case "redis":
                return f"redis://{LOOPBACK}:{self._ports['redis']}/0"
            case "postgres":
                return postgres_server.dsn(self.folder, self._ports["postgres"])
            case "kafka":
                return f"{LOOPBACK}:{self._ports['kafka']}"
            case _:
                return f"http://{LOOPBACK}:{self._ports[name]}"

    def internal(self, name: str) -> str:
        """Where a service has its ``/readyz`` and ``/metrics``."""
        return str(self.stack.description()["internal_urls"][name])

    async def lacking(self) -> list[str]:
        """What is not there or not ready: processes, and what they say that they lack."""
        missing = [name for name in PROCESSES if self.pid(name) is None]
        for name, url in self.stack.description()["internal_urls"].items():
            missing += await _lacks(name, url)
        return missing

    async def until_whole(self, *, within_s: float) -> list[str]:
        """Wait until nothing lacks; what still does when the time is over."""
        deadline = time.monotonic() + within_s
        missing = await self.lacking()
        while missing and time.monotonic() < deadline:
            await asyncio.sleep(LOOKS_EVERY_S)
            missing = await self.lacking()
        return missing

    @property
    def operator_key(self) -> str:
        """An admin's key."""
        return str(self.stack.description()["operator_key"])

    def own(self, name: str) -> dict[str, str]:
        """What only this service finds in its environment: how it reaches the servers."""
        return {"FAIRLINE_KAFKA": f"{LOOPBACK}:{self._ports['>kafka']}", **self._own[name]}

    def clock_file(self, name: str) -> Path:
        """Where the milliseconds are by which the wall clock of a service is wrong."""
        return self.folder.path / "clocks" / name

    def heal_wires(self) -> None:
        """Every wire as it should be."""
        for proxy in self._proxies:
            proxy.heal()

    async def _start(self) -> None:
        public = [name for name in SERVICES if name.startswith(("gateway", "notifier"))]
        upstreams = [*SERVERS, "kafka_controller", *SERVICES, *(f"{name}-internal" for name in public)]
        self._ports = choose(upstreams, kept_in=self.folder.ports_file, forced={}, say=self.said.append)
        self.clock_file("").mkdir(exist_ok=True)
        await self._lay_wires()
        for name in SERVICES:
            self._own[name]["FAIRLINE_CLOCK_SHIFT"] = str(self.clock_file(name))
        self._stack = Stack(
            self.folder,
            environ=self._environ | {"FAIRLINE_KAFKA_ADVERTISED": f"{LOOPBACK}:{self._ports['>kafka']}"},
            copies=COPIES,
            own=self._own.__getitem__,
            say=self.said.append,
        )
        await self._stack.start()

    async def _lay_wires(self) -> None:
        """Kafka tells its clients one address, so there is one proxy for all of them, which asks who they are."""
        kafka = Proxy(self._ports["kafka"], name="kafka", who=client_id, sees=PublishAnswers)
        self._proxies.append(kafka)
        self._ports[">kafka"] = await kafka.start()
        for client, server in _PAIRS:
            if server == "kafka":
                self.wires[f"{client}>kafka"] = NamedWire(kafka, client)
                continue
            proxy = Proxy(self._ports[server], name=f"{client}>{server}")
            self._proxies.append(proxy)
            port = self._ports[proxy.name] = await proxy.start()
            self.wires[proxy.name] = NamedWire(proxy, "")
            if client in self._own:
                self._own[client] |= self._address(server, port)

    def _address(self, server: str, port: int) -> dict[str, str]:
        match server:
            case "redis":
                return {"FAIRLINE_REDIS_URL": f"redis://{LOOPBACK}:{port}/0"}
            case "postgres":
                return {"FAIRLINE_POSTGRES_DSN": postgres_server.dsn(self.folder, port)}
            case _:
                return {"FAIRLINE_ORDER_SERVICE_URL": f"http://{LOOPBACK}:{port}"}

    async def _stop(self) -> None:
        """Services first: their last words to the servers go through the proxies."""
        self.heal_wires()
        if self._stack is not None:
            await asyncio.shield(self._stack.stop())
        for proxy in self._proxies:
            await proxy.stop()
        self.folder.close()


async def _lacks(name: str, url: str) -> list[str]:
    """By the ``/readyz`` of a service."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LOOKS_WITHIN_S)) as session,
            session.get(f"{url}/readyz") as answer,
        ):
            return [f"{name} lacks {what}" for what in (await answer.json())["missing"]]
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, LookupError) as error:
        return [f"{name} does not answer ({type(error).__name__})"]


def _providers() -> dict[str, str]:
    """Which servers' programs to use is the person's choice; which servers are broken is not."""
    chosen = ("FAIRLINE_PROVIDER", "FAIRLINE_KAFKA_JARS")
    return {
        name: text
        for name, text in os.environ.items()
        if name in chosen or (name.startswith("FAIRLINE_") and name.endswith("_PROVIDER"))
    }
