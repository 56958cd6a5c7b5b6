"""``fairline check``: is everything reachable? One line each, and what to do where it is not.

Asks each part itself, from here, with the addresses of the local stack or of the environment; no part is believed
about another. What has no address is not asked, and says so.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import aiohttp
import asyncpg
import msgspec
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from cyclopts import Parameter
from redis.exceptions import AuthenticationError, RedisError

from fairline.cli import CliError
from fairline.cli.client import from_environment, running_stack, whole
from fairline.cli.output import show_json
from fairline.events import TOPICS
from fairline.local.folder import DEFAULT
from fairline.store.client import connect
from fairline.stream.connection import start, stop

WITHIN_S: Final = 3.0
# The last two are of an address that cannot be one.
_AWAY: Final = (
    *(OSError, aiohttp.ClientError, RedisError, KafkaError, asyncpg.PostgresError, asyncpg.InterfaceError),
    *(ValueError, OverflowError),
)
# Their server answers.
_STRANGER: Final = (asyncpg.InvalidAuthorizationSpecificationError, AuthenticationError)
_SERVICES: Final = ("gateway", "notifier", "admission", "order_service")


@dataclass(frozen=True)
class Found:
    """One part. ``ok`` is None where it was not asked."""

    name: str
    ok: bool | None
    took_ms: float
    said: str


class _Fault(Exception):  # noqa: N818 - a sentence on its way to the table
    """What is wrong and what to do."""


def check(
    *,
    data: Annotated[Path, Parameter(help="Folder of the local stack.", env_var="FAIRLINE_DATA")] = DEFAULT,
    also: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Ask every part whether it can be reached; exit code 1 when one cannot.

    The addresses are those of the stack that runs in the data folder; where none runs, FAIRLINE_GATEWAY_URL,
    FAIRLINE_NOTIFIER_URL, FAIRLINE_ORDER_SERVICE_URL, FAIRLINE_REDIS_URL, FAIRLINE_KAFKA and FAIRLINE_POSTGRES_DSN.

    Args:
        data: Folder of the local stack.
        also: NAME=URL of one more health address, for example admission=http://10.0.0.7:9100; may be given again.
        json: Print JSON.
    """
    parts = {**addresses(running_stack(data), os.environ), **_pairs(also or [])}
    if not any(parts.values()):
        raise CliError(f"No stack runs in {data} and the environment names no part: start one with fairline up.")
    found = asyncio.run(ask_all(parts))
    if json:
        show_json(found)
    else:
        width = max(len(each.name) for each in found)
        for each in found:
            word = {True: "ok", False: "NOT OK", None: "not asked"}[each.ok]
            print(f"{each.name:<{width}}  {word:<9}  {each.said}")
    if bad := [each.name for each in found if each.ok is False]:
        raise CliError(f"Cannot work like this: {', '.join(bad)}.")


def addresses(stack: Mapping[str, Any] | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Name -> where to ask; the empty text where that is not known. Raises ``CliError`` for a file not to be read."""
    if stack is not None:
        services = {**dict.fromkeys(_SERVICES, ""), **stack["internal_urls"]}
        servers = {name: stack[key] for name, key in _SERVER_KEYS.items()}
        return {**{name: url and f"{url}/readyz" for name, url in services.items()}, **servers}

    def said(name: str) -> str:
        return from_environment(f"FAIRLINE_{name}", environ) or ""

    gateway, orders = said("GATEWAY_URL").rstrip("/"), said("ORDER_SERVICE_URL").rstrip("/")
    return {
        "gateway": gateway and f"{gateway}/readyz",
        # Its health is on an internal port that buyers' addresses do not tell; that it answers at all is seen here.
        "notifier": said("NOTIFIER_URL").replace("ws", "http", 1),
        "admission": "",
        "order_service": orders and f"{orders}/readyz",
        "redis": said("REDIS_URL"),
        "kafka": said("KAFKA"),
        "postgres": said("POSTGRES_DSN"),
    }


_SERVER_KEYS: Final = {"redis": "redis_url", "kafka": "kafka", "postgres": "postgres_dsn"}


async def ask_all(parts: Mapping[str, str]) -> list[Found]:
    """All at once; takes as long as the slowest, at most ``WITHIN_S``."""
    return list(await asyncio.gather(*(_ask(name, where) for name, where in parts.items())))


async def _ask(name: str, where: str) -> Found:
    if not where:
        return Found(name, None, 0.0, f"its address is not known: name it with --also {name}=URL")
    ask = _SERVERS.get(name, _http)
    began = time.monotonic()
    try:
        async with asyncio.timeout(WITHIN_S):
            said = await ask(where)
    except (_Fault, CliError) as fault:
        said, ok = str(fault), False
    except TimeoutError:
        said, ok = f"{_shown(where)} did not answer within {WITHIN_S:g} s: is it overloaded, or cut off?", False
    except _STRANGER as error:
        said, ok = f"{_shown(where)} answers, but knows us not ({error}): are user and password right?", False
    except asyncpg.InvalidCatalogNameError as error:
        said, ok = f"{_shown(where)} answers ({error}): make that database, or name another one", False
    except _AWAY as error:
        said, ok = f"{_shown(where)} cannot be reached ({error or type(error).__name__}): is it up?", False
    else:
        ok = True
    took_ms = round((time.monotonic() - began) * 1000, 1)
    return Found(name, ok, took_ms, f"{said} ({took_ms:.0f} ms)" if ok else said)


async def _http(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        if not url.endswith("/readyz") or answer.status == 200:  # noqa: PLR2004 - HTTP's word for yes
            return url
        if answer.status != 503:  # noqa: PLR2004 - what readyz says when it is not
            raise _Fault(f"{url} answered {answer.status}: is this Fairline's address?")
        raw = await whole(answer)
    try:
        health: dict[str, Any] = msgspec.json.decode(raw, type=dict[str, Any])
    except msgspec.DecodeError:
        health = {}
    missing = "; ".join(f"{name}: {fault}" for name, fault in health.get("missing", {}).items())
    why = missing or ("it is stopping" if health.get("draining") else "it does not say why")
    raise _Fault(f"runs but is not ready ({why}): start what it misses, its log tells more")


async def _redis(url: str) -> str:
    redis = connect(url, name="fairline-check", timeout_s=WITHIN_S)
    try:
        info = await redis.info("memory")
    finally:
        await redis.aclose()
    if info.get("maxmemory_policy") != "noeviction":
        raise _Fault(f"{_shown(url)} may evict keys: set maxmemory-policy noeviction")
    return _shown(url)


async def _kafka(bootstrap: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=round(WITHIN_S * 1000))
    try:
        await start(admin)
        missing = sorted(set(TOPICS) - set(await admin.list_topics()))
    finally:
        await stop(admin)
    if missing:
        raise _Fault(f"{bootstrap} has no topic {', '.join(missing)}: run python -m fairline.stream.topics")
    return bootstrap


async def _postgres(dsn: str) -> str:
    connection = await asyncpg.connect(dsn, timeout=WITHIN_S)
    try:
        migrated = await connection.fetchval("SELECT to_regclass('sold') IS NOT NULL")
    finally:
        await connection.close(timeout=WITHIN_S)
    if not migrated:
        raise _Fault(f"{_shown(dsn)} has no schema of Fairline: run python -m order_service.migrate")
    return _shown(dsn)


_SERVERS: Final[dict[str, Callable[[str], Awaitable[str]]]] = {
    "redis": _redis,
    "kafka": _kafka,
    "postgres": _postgres,
}


def _shown(where: str) -> str:
    """An address without the password in it."""
    scheme, slashes, rest = where.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}" if slashes else where


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = {name: url for name, _, url in (text.partition("=") for text in given)}
    for name, url in pairs.items():
        if not name or not url.startswith(("http://", "https://")):
            raise CliError("--also wants NAME=URL, for example --also admission=http://10.0.0.7:9100.")
    return {name: url if url.endswith("/readyz") else f"{url.rstrip('/')}/readyz" for name, url in pairs.items()}
