"""Who may import what: services never each other, the kernel no service, each driver only in its home.

Read from the source with ``ast``; nothing is imported. Exempt from the homes of drivers are the parts that look from
outside: the command, the local stack, the demo, ``loadtest`` and ``tests``.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SERVICES: Final = ("gateway", "admission", "order_service", "notifier")
# Pure words: the standard library, msgspec and each other; nothing that opens a connection.
WORDS: Final = tuple(
    f"fairline.{name}" for name in ("ids", "states", "events", "frames", "errors", "tokens", "clock", "sale")
)
LAYERS: Final = ("fairline.store", "fairline.stream", "fairline.runtime")
OUTSIDERS: Final = ("fairline.cli", "fairline.local", "fairline.demo", "loadtest", "tests")

HOMES: Final[dict[str, tuple[str, ...]]] = {
    "litestar": ("gateway",),
    "uvicorn": ("fairline.runtime.health", "fairline.runtime.wire_limits"),
    "uvloop": ("fairline.runtime.accepting",),
    "httptools": (),
    "websockets": ("notifier",),
    "asyncpg": ("order_service",),
    "alembic": ("order_service",),
    "sqlalchemy": ("order_service",),
    "redis": ("fairline.store", "admission"),
    "aiokafka": ("fairline.stream",),
    "cramjam": (),
    "tenacity": ("fairline.runtime.retry",),
    "aiohttp": ("admission", "gateway"),
    "jwt": ("fairline.tokens",),
    "structlog": ("fairline.runtime.logs",),
    "pydantic_settings": ("fairline.runtime.settings",),
    "cyclopts": (),
    "rich": (),
    "locust": (),
    "gevent": (),
}


def imports_of(source: str, module: str) -> Iterator[str]:
    """Every module that a source imports, also inside functions and for types only; relative ones are resolved."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(module: str, places: Iterable[str]) -> bool:
    """Whether a module is one of these, or inside one."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def faults_of(module: str, source: str) -> list[str]:
    """The imports of a module that it may not make."""
    top = module.partition(".")[0]
    faults = []
    for imported in imports_of(source, module):
        package = imported.partition(".")[0]
        if package == top == "tests" or within(module, ("tests",)):
            continue
        why = ""
        if package == "tests" and top != "loadtest":
            why = "only tests and measurements import tests"
        elif package in SERVICES and package != top:
            why = "a service is imported by itself only" if top in SERVICES else "nobody imports a service"
        elif package in HOMES and not within(module, (*HOMES[package], *OUTSIDERS)):
            why = f"{package} lives in {', '.join(HOMES[package]) or 'the outside'}"
        elif within(module, WORDS) and not _pure(imported):
            why = "words know the standard library, msgspec and each other"
        elif within(module, LAYERS) and package == "fairline":
            why = _crossing(module, imported)
        elif top in SERVICES and within(imported, OUTSIDERS):
            why = "a service does not know who looks at it"
        if why:
            faults.append(f"{module} imports {imported}: {why}")
    return faults


def _pure(imported: str) -> bool:
    return (
        within(imported, ("msgspec", "jwt", *WORDS))  # jwt has a home of its own, above
        or imported.partition(".")[0] in sys.stdlib_module_names
        or imported in {f"fairline.{name.rpartition('.')[2]}" for name in WORDS}
    )


def _crossing(module: str, imported: str) -> str:
    """Store, stream and runtime know the words and themselves, so that each can be used without the others."""
    mine = next(layer for layer in LAYERS if within(module, (layer,)))
    return "" if within(imported, (mine, *WORDS)) else f"{mine} knows the words and itself"


def modules() -> list[tuple[str, Path]]:
    """(module, file) of every Python file of the project."""
    found = []
    for top in ("fairline", "loadtest", *SERVICES):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def test_every_part_is_looked_at() -> None:
    seen = {module.partition(".")[0] for module, _ in modules()}
    assert seen == {"fairline", "loadtest", *SERVICES}
    assert {*WORDS, *LAYERS} <= {module for module, _ in modules()}


@pytest.mark.parametrize("top", ["fairline", "loadtest", *SERVICES])
def test_no_import_crosses_a_layer(top: str) -> None:
    faults = [
        fault
        for module, path in modules()
        if module.partition(".")[0] == top
        for fault in faults_of(module, path.read_text())
    ]
    assert faults == []


def test_every_driver_of_the_project_has_a_home_or_is_nobody_s_own() -> None:
    """A new dependency is a decision: give it a home, or say here that it is everybody's."""
    everybody_s = {"msgspec", "pydantic", "prometheus_client"}
    used = {
        imported.partition(".")[0]
        for module, path in modules()
        if not within(module, OUTSIDERS)
        for imported in imports_of(path.read_text(), module)
    }
    ours = {"fairline", *SERVICES}
    assert used - set(sys.stdlib_module_names) - ours - everybody_s - set(HOMES) == set()


PLANTED = [
    ("gateway.app", "import admission.relay"),
    ("gateway.app", "from notifier import hub"),
    ("gateway.routes.sales", "from ...admission import relay"),
    ("fairline.store.room", "import gateway"),
    ("fairline.cli.up", "from order_service.migrate import main"),
    ("loadtest.buyers", "from gateway.schemas import Join"),
    ("notifier.hub", "def late():\n    import asyncpg"),
    ("gateway.app", "import websockets"),
    ("order_service.writer", "from aiokafka import AIOKafkaConsumer"),
    ("notifier.hub", "from tenacity import retry"),
    ("fairline.runtime.services", "import tenacity"),
    ("fairline.stream.reader", "import redis.asyncio"),
    ("fairline.store.room", "import locust"),
    ("fairline.store.room", "from fairline.runtime import logs"),
    ("fairline.stream.writer", "from fairline.store.keys import SaleKeys"),
    ("fairline.runtime.health", "from fairline import store"),
    ("fairline.ids", "import redis"),
    ("fairline.states", "from fairline.store.keys import SaleKeys"),
    ("fairline.frames", "from fairline import runtime"),
    ("fairline.events", "import prometheus_client"),
    ("fairline.ids", "import jwt"),
    ("gateway.app", "from tests.support import sale"),
    ("gateway.app", "if TYPE_CHECKING:\n    from admission import relay"),
    ("notifier.app", "from fairline.local import ports"),
]


@pytest.mark.parametrize(("module", "source"), PLANTED)
def test_a_planted_import_is_found(module: str, source: str) -> None:
    assert len(faults_of(module, source)) == 1


ALLOWED = [
    ("gateway.app", "import litestar\nfrom fairline.store.room import Room\nfrom gateway import joins"),
    ("gateway.routes.sales", "from ..schemas import Join\nfrom . import tickets"),
    ("fairline.tokens", "import jwt, msgspec\nfrom fairline.errors import TokenError"),
    ("fairline.sale", "from fairline import ids"),
    (
        "fairline.store.room",
        "from fairline import frames\nfrom fairline.store import keys\nfrom redis.asyncio import Redis",
    ),
    ("fairline.local.probes", "import asyncpg, redis, aiokafka"),
    ("tests.unit.x", "import gateway, admission, redis"),
]


@pytest.mark.parametrize(("module", "source"), ALLOWED)
def test_what_is_allowed_is_not_reported(module: str, source: str) -> None:
    assert faults_of(module, source) == []
