"""Real servers for tests: ``servers("redis", "postgres", "kafka")`` alone, or ``FullStack`` with everything.

Each has a temporary folder of its own and is gone afterwards. What cannot be had is a skip on a laptop and a
failure where ``CI`` is set.
"""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from fairline.local import ports
from fairline.local.errors import StackError
from fairline.local.folder import DataFolder
from fairline.local.servers import Servers
from fairline.local.supervisor import Supervisor


def cannot_be_had(what: str) -> NoReturn:
    """Skip on a laptop, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


@dataclass(frozen=True)
class Running:
    """The addresses of the servers asked for (empty for the others), and the means to trouble them."""

    redis_url: str
    postgres_dsn: str
    kafka: str
    folder: Path
    supervisor: Supervisor

    def pid(self, name: str) -> int:
        """The process of ``redis``, ``postgres`` or ``kafka``; killed, it comes back on the same port."""
        pid = self.supervisor.pid(name)
        assert pid is not None, f"{name} is held down"
        return pid


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed in the end, as far as it can be."""
    with tempfile.TemporaryDirectory(prefix="fairline-test-", ignore_cleanup_errors=True) as name:
        yield Path(name) / "data"


@asynccontextmanager
async def servers(*wanted: str, environ: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """Start these servers in a folder of their own. Usual time: redis 0.1 s, postgres 2 s, kafka 4 s.

    Addresses in the environment of the test run are not used: tests need servers that they may break.
    ``environ`` is added to that environment.
    """
    names = ("FAIRLINE_REDIS_URL", "FAIRLINE_POSTGRES_DSN", "FAIRLINE_KAFKA", "FAIRLINE_KAFKA_ADVERTISED")
    settings = {name: value for name, value in os.environ.items() if name not in names} | dict(environ or {})
    said: list[str] = []
    with temporary_folder() as path:
        folder = DataFolder(path)
        folder.open()
        supervisor = Supervisor(folder.logs, say=said.append)
        ours = Servers(folder, supervisor, settings, wanted=wanted, say=said.append)
        chosen = ports.choose(ours.port_names, kept_in=folder.ports_file, forced={}, say=said.append)
        try:
            try:
                await ours.start(chosen)
            except StackError as error:
                cannot_be_had(str(error))
            at = ours.addresses(chosen)
            yield Running(at.redis_url, at.postgres_dsn, at.kafka, path, supervisor)
        finally:
            with contextlib.suppress(StackError):
                await ours.stop(chosen)
            folder.close()
