"""The whole stack of one data folder: ports, servers, topics and migrations, services; and back again.

The composition root of the local stack: what runs is decided here, and the parameters are what a test
replaces. Lifecycle: ``start`` once, ``stop`` at any time after it began, also twice. What must never happen:
a server that is stopped before the services, a child left after ``stop``, a ``stack.json`` while not
everything was ready.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fairline.local import ports, services
from fairline.local.child import Child
from fairline.local.errors import StackError
from fairline.local.folder import DataFolder, write_atomically
from fairline.local.ports import LOOPBACK
from fairline.local.program import Program
from fairline.local.servers import ALL, Servers, at_once
from fairline.local.services import SERVICES, STEPS, Service, Step
from fairline.local.supervisor import Supervisor

_STEP_WITHIN_S = 60.0


class Stack:
    """Everything that runs in one folder, which has to be open."""

    def __init__(
        self,
        folder: DataFolder,
        *,
        environ: Mapping[str, str],
        copies: Mapping[str, int] | None = None,
        forced_ports: Mapping[str, int] | None = None,
        running: Iterable[Service] = SERVICES,
        steps: Iterable[Step] = STEPS,
        own: Callable[[str], Mapping[str, str]] = lambda _name: {},
        say: Callable[[str], None] = print,
    ) -> None:
        """``say`` gets the lines for people; ``own`` says what one process finds in its environment instead.

        With ``own`` the processes may reach the servers by different ways, a proxy for each for example.

        Raises:
            StackError: a wish that cannot be met.
        """
        self._folder = folder
        self._environ = environ
        self._say = say
        self._steps = list(steps)
        self._own = own
        self._copies = services.copies(running, copies or {})
        order = [*ALL, *(copy.name for copy in self._copies)]
        self.supervisor = Supervisor(folder.logs, say=say, changed=self._changed, order=order)
        self._servers = Servers(folder, self.supervisor, environ, say=say)
        self._names = [*self._servers.port_names, *services.port_names(self._copies)]
        self._forced = {**forced_by(environ, self._names), **_known(forced_ports or {}, self._names)}
        self._ports: dict[str, int] = {}
        self._ready = False

    @property
    def ready(self) -> bool:
        """Everything was ready once, and nothing has told it to stop."""
        return self._ready

    async def start(self) -> None:
        """Start all; when it comes back, everything is ready and ``stack.json`` is written.

        Raises:
            StackError: something cannot be had or did not become ready; call ``stop`` then too.
        """
        self._folder.stack_file.unlink(missing_ok=True)  # of a stack that was killed
        self._ports = ports.choose(self._names, kept_in=self._folder.ports_file, forced=self._forced, say=self._say)
        await self._servers.start(self._ports)
        env = services.environment(
            self._environ,
            ports=self._ports,
            addresses=self._servers.addresses(self._ports),
            token_keys=f"local:{self._folder.secret('token_key')}",
        )
        await at_once(self._run(step, env) for step in self._steps)
        await at_once(
            self.supervisor.start(
                services.program(
                    copy,
                    env={**env, **self._own(copy.name)},
                    ports=self._ports,
                    operator_key=self._operator_key,
                    cwd=self._folder.path,
                )
            )
            for copy in self._copies
        )
        self._ready = True
        write_atomically(self._folder.stack_file, json.dumps(self.description(), indent=2) + "\n")

    async def stop(self) -> bool:
        """Stop the services, then the servers; whether Redis was stopped cleanly."""
        self._ready = False
        self._folder.stack_file.unlink(missing_ok=True)
        await self.supervisor.stop(name for name in self.supervisor.names if name not in self._servers.ours)
        return await self._servers.stop(self._ports)

    def description(self) -> dict[str, Any]:
        """What ``stack.json`` says."""
        at = self._servers.addresses(self._ports)
        urls = services.urls(self._ports)
        gateway = urls.get("FAIRLINE_GATEWAY_URL", "")
        return {
            "gateway_url": gateway,
            "notifier_url": urls.get("FAIRLINE_NOTIFIER_URL", ""),
            "console_url": f"{gateway}/console",
            "postgres_dsn": at.postgres_dsn,
            "redis_url": at.redis_url,
            "kafka": at.kafka,
            "operator_key": self._operator_key,
            "processes": [
                {"name": name, "pid": pid}
                for name in self.supervisor.names
                if (pid := self.supervisor.pid(name)) is not None
            ],
            # Every copy by its own name: where /livez, /readyz and /metrics are, and where the public comes
            # in.
            "internal_urls": {copy.name: f"http://{LOOPBACK}:{self._ports[copy.ready_port]}" for copy in self._copies},
            "public_urls": {
                copy.name: f"{'ws' if copy.service.name == 'notifier' else 'http'}://{LOOPBACK}:"
                f"{self._ports[copy.public_port]}"
                for copy in self._copies
                if copy.public_port
            },
            "logs": str(self._folder.logs),
        }

    @property
    def _operator_key(self) -> str:
        return self._folder.secret("operator_key", "fl_admin_")

    def _changed(self) -> None:
        if self._ready:
            try:
                write_atomically(self._folder.stack_file, json.dumps(self.description(), indent=2) + "\n")
            except (OSError, StackError) as error:
                self._say(f"{self._folder.stack_file} could not be written: {error}")

    async def _run(self, step: Step, env: Mapping[str, str]) -> None:
        program = Program(name=step.name, argv=step.argv, env=env, cwd=self._folder.path)
        child = await Child.start(program, self._folder.logs / f"{step.name}.log")
        try:
            async with asyncio.timeout(_STEP_WITHIN_S):
                code = await child.ended()
        except TimeoutError:
            child.kill()
            raise StackError(f"{step.name} took longer than {_STEP_WITHIN_S:.0f} s: look into {child.log}.") from None
        finally:
            await child.stop()
        if code != 0:
            raise StackError(f"{step.name} failed ({child.how_it_ended()}): look into {child.log}.{child.last_words()}")


def forced_by(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, int]:
    """The ports that the environment forces."""
    forced: dict[str, int] = {}
    for name in names:
        variable = services.port_variable(name)
        if text := environ.get(variable):
            forced[name] = port_number(text, variable)
    return forced


def port_number(text: str, where: str) -> int:
    """A port from what a person wrote.

    Raises:
        StackError: it is none.
    """
    with contextlib.suppress(ValueError):
        if 1 <= int(text) <= 65535:  # noqa: PLR2004 - the ports there are
            return int(text)
    raise StackError(f"{where} is {text!r}: a port is a whole number from 1 to 65535.")


def _known(forced: Mapping[str, int], names: list[str]) -> Mapping[str, int]:
    for name in forced:
        if name not in names:
            raise StackError(f"There is no port {name}: the names are {', '.join(names)}.")
    return forced
