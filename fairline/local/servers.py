"""The three servers of one data folder: which are ours to start, their addresses, their start and clean stop.

An address in the environment (``FAIRLINE_REDIS_URL``, ``FAIRLINE_KAFKA``, ``FAIRLINE_POSTGRES_DSN``) wins
over starting that server. A Redis that stopped cleanly leaves a mark with its ``master_replid``; the next
start takes the mark away *before* Redis runs and hands it to the sales as soon as it is up, because every
restart has a new one.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from fairline.local import kafka_server, postgres_server, redis_server
from fairline.local.folder import DataFolder
from fairline.local.ports import LOOPBACK
from fairline.local.supervisor import Supervisor

ALL = ("redis", "postgres", "kafka")
_VARIABLES = {"redis": "FAIRLINE_REDIS_URL", "postgres": "FAIRLINE_POSTGRES_DSN", "kafka": "FAIRLINE_KAFKA"}
_ANSWER_WITHIN_S = 1.0


@dataclass(frozen=True)
class Addresses:
    """Where the servers are; empty for one that was not asked for."""

    redis_url: str = ""
    postgres_dsn: str = ""
    kafka: str = ""


class Servers:
    """Starts those of ``wanted`` that the environment does not name."""

    def __init__(
        self,
        folder: DataFolder,
        supervisor: Supervisor,
        environ: Mapping[str, str],
        *,
        wanted: Collection[str] = ALL,
        say: Callable[[str], None] = print,
    ) -> None:
        self._folder = folder
        self._supervisor = supervisor
        self._environ = environ
        self._wanted = wanted
        self._say = say
        self.ours = [name for name in ALL if name in wanted and not environ.get(_VARIABLES[name])]
        self._unadopted: str | None = None

    @property
    def port_names(self) -> list[str]:
        """The ports that ``start`` needs."""
        return [*self.ours, *(["kafka_controller"] if "kafka" in self.ours else [])]

    def addresses(self, ports: Mapping[str, int]) -> Addresses:
        """The named ones, and those that ours get on these ports."""
        given = {name: self._environ.get(_VARIABLES[name], "") for name in ALL if name in self._wanted}
        if "redis" in self.ours:
            given["redis"] = f"redis://{LOOPBACK}:{ports['redis']}/0"
        if "postgres" in self.ours:
            given["postgres"] = postgres_server.dsn(self._folder, ports["postgres"])
        if "kafka" in self.ours:
            advertised = self._environ.get("FAIRLINE_KAFKA_ADVERTISED")
            given["kafka"] = advertised or f"{LOOPBACK}:{ports['kafka']}"
        return Addresses(given.get("redis", ""), given.get("postgres", ""), given.get("kafka", ""))

    async def start(self, ports: Mapping[str, int]) -> None:
        """Start ours at the same time; all are ready afterwards.

        Raises:
            StackError: one cannot be had, or did not become ready; the others may still run.
        """
        starts = {"redis": self._start_redis, "postgres": self._start_postgres, "kafka": self._start_kafka}
        await at_once(starts[name](ports) for name in self.ours)

    async def stop(self, ports: Mapping[str, int]) -> bool:
        """Stop ours at the same time, services having ended before; whether Redis left its mark."""
        mark = None
        if "redis" in self.ours and self._supervisor.pid("redis") is not None:
            mark = await _kept_identity(self.addresses(ports).redis_url)
        await self._supervisor.stop(self.ours)
        if self._unadopted is not None:  # no script has changed a sale since that mark, however Redis ended
            mark = self._unadopted
        elif self._supervisor.exit_code("redis") != 0:
            mark = None
        if mark is not None:
            self._folder.set_clean_mark(mark)
        return mark is not None

    async def _start_redis(self, ports: Mapping[str, int]) -> None:
        program = await redis_server.program(self._folder, ports["redis"], self._environ)
        new = redis_server.is_new(self._folder)
        # Kept until the sales have it: a start that fails half-way must not cost them the clean stop.
        self._unadopted = self._folder.take_clean_mark()
        await self._supervisor.start(program)
        if self._unadopted is not None:
            await self._adopt(self.addresses(ports).redis_url, self._unadopted)
            self._unadopted = None
        elif not new:
            self._say(
                "Redis was not stopped cleanly: the sales of before are rebuilt, and read `recovering` until then"
            )

    async def _adopt(self, redis_url: str, was: str) -> None:
        from fairline.store import fence  # noqa: PLC0415 - the store is not needed before there was a clean stop

        sales = await fence.adopt(redis_url, was)
        if sales:
            self._say(f"Redis was stopped cleanly: the fence of {', '.join(sales)} is set anew")

    async def _start_postgres(self, ports: Mapping[str, int]) -> None:
        program = await postgres_server.program(self._folder, ports["postgres"], self._environ)
        await self._supervisor.start(program)
        await postgres_server.create_database(self._folder, ports["postgres"])

    async def _start_kafka(self, ports: Mapping[str, int]) -> None:
        program = await kafka_server.program(self._folder, ports["kafka"], ports["kafka_controller"], self._environ)
        await self._supervisor.start(program)


async def _kept_identity(url: str) -> str | None:
    """The ``master_replid``, or ``None`` when Redis does not say, or has not written down all that it has."""
    from fairline.store import fence  # noqa: PLC0415

    try:
        async with asyncio.timeout(_ANSWER_WITHIN_S):
            return await fence.kept_identity(url)
    except (OSError, TimeoutError, redis.RedisError):
        return None


async def at_once(work: Iterable[Any]) -> None:
    """Do all at the same time; the first failure ends the others and is the one that is told.

    Of several in the same turn the first in order is told, so that the same trouble has the same sentence.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    if not tasks:
        return
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()  # once: a second time would break off the stopping of its child
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()
