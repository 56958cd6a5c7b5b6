"""Reads ``deploy/compose.yaml`` and the Containerfile, and says what in them a service would refuse.

There is no container engine behind it: it compares text with the settings classes, with the modules that exist and with
itself. What only an engine can show (that images exist, that health checks run) stays unknown.
"""

import copy
import importlib
import importlib.util
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from pydantic_settings import BaseSettings

from fairline.runtime.settings import PREFIX, PostgresSettings, SettingsError, load

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
COMPOSE: Final = DEPLOY / "compose.yaml"
CONTAINERFILE: Final = DEPLOY / "Containerfile"
EXAMPLE_ENV: Final = DEPLOY / "compose.example.env"

SETTINGS: Final = {
    "gateway": "gateway.settings:GatewaySettings",
    "admission": "admission.settings:AdmissionSettings",
    "order_service": "order_service.settings:OrderServiceSettings",
    "notifier": "notifier.settings:NotifierSettings",
}
SERVERS: Final = ("valkey", "kafka", "postgres")
_PUBLISHED: Final = frozenset({"gateway", "notifier"})
_SECRETS_AT: Final = "/run/secrets/"
_READ_BY_JOBS: Final = {
    "topics": {"FAIRLINE_KAFKA"},
    "migrations": {"FAIRLINE_POSTGRES_DSN"},
    "cli": {
        *("FAIRLINE_REDIS_URL", "FAIRLINE_KAFKA", "FAIRLINE_POSTGRES_DSN", "FAIRLINE_ORDER_SERVICE_URL"),
        *("FAIRLINE_GATEWAY_URL", "FAIRLINE_NOTIFIER_URL", "FAIRLINE_OPERATOR_KEY"),
    },
}
_NOT_CONNECTIONS: Final = 256  # files a process has open besides those of clients
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
_VERSION: Final = re.compile(r":v?\d+\.\d+(\.\d+)?([.-][\w.-]+)?(@sha256:[0-9a-f]{64})?$")

Compose = dict[str, Any]


def settings_of(service: str) -> type[BaseSettings]:
    """The settings class of a service."""
    module, _, name = SETTINGS[service].partition(":")
    found: type[BaseSettings] = getattr(importlib.import_module(module), name)
    return found


def example_env() -> dict[str, str]:
    """What compose is told of one installation, as the example tells it."""
    lines = (line.strip() for line in EXAMPLE_ENV.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def compose(env: Mapping[str, str]) -> Compose:
    """The file with its variables put in; raises ``KeyError`` for one that must be given and is not."""
    found: Compose = _put_in(yaml.safe_load(COMPOSE.read_text()), env)
    return found


def without(whole: Compose, *path: str) -> Compose:
    """A copy without what is at ``path``."""
    changed = copy.deepcopy(whole)
    place = changed
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return changed


def changed(whole: Compose, value: Any, *path: str) -> Compose:
    """A copy with another value at ``path``."""
    result = copy.deepcopy(whole)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


def faults(whole: Compose, secrets: Path) -> list[str]:
    """Everything that would keep this deployment from working, one line each; ``secrets`` are real files."""
    found = [*_of_secrets(whole, secrets), *_of_images(whole), *_of_commands(whole), *_of_publishing(whole)]
    for job, read in _READ_BY_JOBS.items():
        found += _unused(whole, job, read)
    for name in SETTINGS:
        if name in whole["services"]:
            found += _of_service(whole, name, secrets)
            found += _unused(whole, name, {str(field.alias) for field in settings_of(name).model_fields.values()})
        else:
            found.append(f"{name}: is not there")
    return [*found, *_of_addresses(whole, secrets)]


def _put_in(node: Any, env: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _put_in(value, env) for key, value in node.items()}
    if isinstance(node, list):
        return [_put_in(value, env) for value in node]
    if isinstance(node, str):
        return _VARIABLE.sub(lambda match: _value(match, env), node)
    return node


def _value(match: re.Match[str], env: Mapping[str, str]) -> str:
    name, kind, rest = match.groups()
    if env.get(name):
        return env[name]
    if kind == "-":
        return str(rest)
    raise KeyError(f"{name}: {rest}")


def _of_secrets(whole: Compose, secrets: Path) -> Iterator[str]:
    for name, secret in whole["secrets"].items():
        if secret.get("file") != f"./secrets/{name}":
            yield f"secret {name}: its file is not ./secrets/{name}"
        if not (secrets / name).is_file():
            yield f"secret {name}: make-secrets does not make it"
    for name, service in whole["services"].items():
        for secret in service.get("secrets", []):
            if secret not in whole["secrets"]:
                yield f"{name}: there is no secret {secret}"
        given = {
            value.removeprefix(_SECRETS_AT)
            for value in service.get("environment", {}).values()
            if str(value).startswith(_SECRETS_AT)
        }
        yield from (
            f"{name}: secret {secret} is read and not granted" for secret in given - {*service.get("secrets", [])}
        )
        yield from (
            f"{name}: secret {secret} is granted and not read" for secret in {*service.get("secrets", [])} - given
        )
        for variable, value in service.get("environment", {}).items():
            if not isinstance(value, str):
                yield f"{name}: {variable} is {value!r}: YAML makes something else of it, put it in quotes"


def _of_images(whole: Compose) -> Iterator[str]:
    for name, service in whole["services"].items():
        if not _VERSION.search(service["image"]):
            yield f"{name}: image {service['image']} has no version"


def _of_commands(whole: Compose) -> Iterator[str]:
    for name, service in whole["services"].items():
        if name in {*SERVERS, "cli"}:
            continue
        python, option, module = service["command"][:3]
        runs = f"{module}.__main__" if name in SETTINGS else module
        if (python, option) != ("python", "-m") or not _exists(runs):
            yield f"{name}: command {service['command']} starts no module that exists"
        if name in SETTINGS and module != name:
            yield f"{name}: command {service['command']} starts another service"


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package does not exist either
        return False


def _of_publishing(whole: Compose) -> Iterator[str]:
    published = {name for name, service in whole["services"].items() if service.get("ports")}
    if published != _PUBLISHED:
        yield f"published are {sorted(published)}, not {sorted(_PUBLISHED)}"
    if not whole["networks"]["servers"].get("internal"):
        yield "the network of the servers reaches outside"
    for name in SERVERS:
        if whole["services"][name]["networks"] != ["servers"]:
            yield f"{name}: is on a network beside `servers`"


def _of_service(whole: Compose, name: str, secrets: Path) -> Iterator[str]:
    service = whole["services"][name]
    try:
        settings: Any = load(settings_of(name), environment(service, secrets))
    except SettingsError as error:
        yield from (f"{name}: {line}" for line in str(error).splitlines())
        return
    if _seconds(service["stop_grace_period"]) <= settings.drain_s:
        yield f"{name}: is killed after {service['stop_grace_period']}, and may drain for {settings.drain_s:g} s"
    if name in _PUBLISHED:
        inside = [int(str(port).rpartition(":")[2]) for port in service.get("ports", [])]
        if inside != [settings.port]:
            yield f"{name}: listens on {settings.port} and publishes {inside}"
        if settings.host != "0.0.0.0":
            yield f"{name}: listens on {settings.host}, where nobody outside the container comes"
    if name != "gateway" and (settings.internal_host != "0.0.0.0" or settings.internal_port == 0):
        yield f"{name}: its health and metrics cannot be reached from outside the container"
    most = getattr(settings, "max_connections", 0)
    if service["ulimits"]["nofile"]["hard"] < most + _NOT_CONNECTIONS:
        yield f"{name}: may hold {most} connections, and open {service['ulimits']['nofile']['hard']} files"
    for limit in ("cpus", "memory"):
        if limit not in service["deploy"]["resources"]["limits"]:
            yield f"{name}: has no limit of {limit}"


def _unused(whole: Compose, name: str, read: Container[str]) -> Iterator[str]:
    """A service takes no offence at what another one reads, but it would do nothing there."""
    for variable in whole["services"][name].get("environment", {}):
        if variable.startswith(PREFIX) and variable not in read and variable.removesuffix("_FILE") not in read:
            yield f"{name}: {variable} does nothing there"


def _of_addresses(whole: Compose, secrets: Path) -> Iterator[str]:
    """Every address that a service is given is where another one listens."""
    services = whole["services"]
    kafka = services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].removeprefix("PLAINTEXT://")
    database = services["postgres"]["environment"]
    expected = {
        "FAIRLINE_REDIS_URL": ("valkey", 6379),
        "FAIRLINE_ORDER_SERVICE_URL": (
            "order_service",
            int(services["order_service"]["environment"].get("FAIRLINE_INTERNAL_PORT", 0)),
        ),
    }
    for name, service in services.items():
        env = service.get("environment", {})
        for variable, place in expected.items():
            if variable in env and (urlsplit(env[variable]).hostname, urlsplit(env[variable]).port) != place:
                yield f"{name}: {variable}={env[variable]!r} is not where {place[0]} listens ({place[1]})"
        if env.get("FAIRLINE_KAFKA", kafka) != kafka:
            yield f"{name}: FAIRLINE_KAFKA={env['FAIRLINE_KAFKA']!r} is not where Kafka says it is ({kafka})"
        if "FAIRLINE_POSTGRES_DSN_FILE" in env:
            dsn = urlsplit(load(PostgresSettings, environment(service, secrets)).postgres_dsn.get_secret_value())
            said = (dsn.hostname, dsn.port, dsn.username, dsn.path)
            if said != ("postgres", 5432, database["POSTGRES_USER"], f"/{database['POSTGRES_DB']}"):
                yield f"{name}: its DSN is not of the database that compose makes"
            if dsn.password != (secrets / "postgres_password").read_text().strip():
                yield f"{name}: its DSN has another password than Postgres"


def environment(service: Compose, secrets: Path) -> dict[str, str]:
    """What the process would see, with the secrets where they are here."""
    env: dict[str, str] = service.get("environment", {})
    return {
        name: str(secrets / value.removeprefix(_SECRETS_AT)) if str(value).startswith(_SECRETS_AT) else str(value)
        for name, value in env.items()
        if name.startswith(PREFIX)
    }


def _seconds(text: str) -> float:
    parts = re.findall(r"(\d+)(ms|s|m|h)", text)
    return sum(int(number) * _UNITS[unit] for number, unit in parts)
