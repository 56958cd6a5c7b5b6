"""The four services and what has to be done before them, as data: commands, ports, environment.

What the user set in the environment reaches the services (``FAIRLINE_ADMISSION_LEASE_MS`` and the like),
except the stack's own variables: a service refuses to start when there is a ``FAIRLINE_`` variable that it
does not know.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairline.local import probes
from fairline.local.errors import StackError
from fairline.local.ports import LOOPBACK
from fairline.local.program import Program
from fairline.local.servers import Addresses

# Read by the stack and by nothing else; each server's and service's port and provider come on top.
_OWN = ("FAIRLINE_PROVIDER", "FAIRLINE_DATA", "FAIRLINE_KAFKA_ADVERTISED", "FAIRLINE_KAFKA_JARS")
_PROVIDERS = ("REDIS", "POSTGRES", "KAFKA", "JAVA")
_FEWEST_S_TO_DRAIN = "3"
_NO_BALANCER = "0"  # so nobody to linger for
# Longer than draining takes, and short enough that servers and services together are gone within 10 s.
_STOP_WITHIN_S = 4.5
_MOST_COPIES = 16


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service: with a listener for the public, one of its own for ``/readyz`` and metrics, or both."""

    name: str
    argv: Sequence[str]
    public: bool = False
    internal: bool = True


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command that is run to its end before the services start; running it again does no harm."""

    name: str
    argv: Sequence[str]


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name)


SERVICES = (
    Service(name="gateway", argv=_module("gateway"), public=True, internal=False),
    Service(name="admission", argv=_module("admission")),
    Service(name="order_service", argv=_module("order_service")),
    Service(name="notifier", argv=_module("notifier"), public=True),
)
STEPS = (
    Step(name="topics", argv=_module("fairline.stream.topics")),
    Step(name="migrations", argv=_module("order_service.migrate")),
)


@dataclass(frozen=True)
class Copy:
    """One process of a service: ``gateway``, ``gateway-2``."""

    service: Service
    number: int

    @property
    def name(self) -> str:
        """The first one has the plain name."""
        return self.service.name if self.number == 1 else f"{self.service.name}-{self.number}"

    @property
    def public_port(self) -> str | None:
        """The name of its public port among the chosen ones."""
        return self.name if self.service.public else None

    @property
    def internal_port(self) -> str | None:
        """The name of its internal port among the chosen ones."""
        if not self.service.internal:
            return None
        return f"{self.name}-internal" if self.service.public else self.name

    @property
    def ready_port(self) -> str:
        """Where ``/readyz`` is."""
        return self.internal_port or self.name


def copies(services: Iterable[Service], wanted: Mapping[str, int]) -> list[Copy]:
    """Every process to start; ``wanted`` says how many where it is not one.

    Raises:
        StackError: no such service, or a number that makes no sense.
    """
    services = list(services)
    names = [service.name for service in services]
    for name, number in wanted.items():
        if name not in names:
            raise StackError(f"There is no service {name} to copy: the names are {', '.join(names)}.")
        if not 1 <= number <= _MOST_COPIES:
            raise StackError(f"{number} copies of {name} make no sense: allowed are 1 to {_MOST_COPIES}.")
    return [Copy(service, number + 1) for service in services for number in range(wanted.get(service.name, 1))]


def port_names(processes: Iterable[Copy]) -> list[str]:
    """The ports that these processes need."""
    return [name for copy in processes for name in (copy.public_port, copy.internal_port) if name]


def port_variable(port: str) -> str:
    """The environment variable that forces a port: ``FAIRLINE_GATEWAY_PORT``, ``FAIRLINE_GATEWAY_2_PORT``."""
    return f"FAIRLINE_{port.upper().replace('-', '_')}_PORT"


def urls(ports: Mapping[str, int]) -> dict[str, str]:
    """Where the first copies are reached; a service that is not part of this stack is left out."""
    at = {
        "FAIRLINE_GATEWAY_URL": ("http", ports.get("gateway")),
        "FAIRLINE_NOTIFIER_URL": ("ws", ports.get("notifier")),
        "FAIRLINE_ORDER_SERVICE_URL": ("http", ports.get("order_service")),
    }
    return {name: f"{scheme}://{LOOPBACK}:{port}" for name, (scheme, port) in at.items() if port}


def environment(
    environ: Mapping[str, str], *, ports: Mapping[str, int], addresses: Addresses, token_keys: str
) -> dict[str, str]:
    """What every service and every step gets; token keys of the environment are used in place of ``token_keys``."""
    own_keys = (
        {}
        if {"FAIRLINE_TOKEN_KEYS", "FAIRLINE_TOKEN_KEYS_FILE"} & set(environ)
        else {"FAIRLINE_TOKEN_KEYS": token_keys}
    )
    ours = {
        "FAIRLINE_REDIS_URL": addresses.redis_url,
        "FAIRLINE_KAFKA": addresses.kafka,
        "FAIRLINE_POSTGRES_DSN": addresses.postgres_dsn,
        **own_keys,
        "FAIRLINE_LOG_FORMAT": "console",
        **urls(ports),
    }
    each = ("PROCESS", "OPERATOR_KEY", "HOST", "PORT", "INTERNAL_HOST", "INTERNAL_PORT")
    dropped = {
        *_OWN,
        *(f"FAIRLINE_{name}_PROVIDER" for name in _PROVIDERS),
        *(port_variable(name) for name in ports),
        *(f"FAIRLINE_{name}" for name in each),
        *ours,
    }
    passed = {
        name: value
        for name, value in environ.items()
        # What the stack gives is given once: a service refuses a setting that comes by file as well.
        if name not in dropped and name.removesuffix("_FILE") not in dropped
    }
    # Python would otherwise look for modules in the data folder first, which has folders named like some.
    always = {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    return {
        "FAIRLINE_DRAIN_S": _FEWEST_S_TO_DRAIN,
        "FAIRLINE_GATEWAY_LINGER_S": _NO_BALANCER,
        **passed,
        **always,
        **ours,
    }


def program(copy: Copy, *, env: Mapping[str, str], ports: Mapping[str, int], operator_key: str, cwd: Path) -> Program:
    """One process of a service."""
    own = {"FAIRLINE_PROCESS": copy.name}
    if copy.public_port:
        own |= {"FAIRLINE_HOST": LOOPBACK, "FAIRLINE_PORT": str(ports[copy.public_port])}
    if copy.internal_port:
        own |= {
            "FAIRLINE_INTERNAL_HOST": LOOPBACK,
            "FAIRLINE_INTERNAL_PORT": str(ports[copy.internal_port]),
        }
    if copy.service.name == "gateway":
        own["FAIRLINE_OPERATOR_KEY"] = operator_key
    return Program(
        name=copy.name,
        argv=copy.service.argv,
        env={**env, **own},
        cwd=cwd,
        ready=probes.http(ports[copy.ready_port]),
        stop_within_s=_STOP_WITHIN_S,
    )
