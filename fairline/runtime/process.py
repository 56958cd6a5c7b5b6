"""``python -m SERVICE``: read settings, set up logs, run, exit with a code that says how it went."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from fairline import clock
from fairline.errors import UnfitServerError
from fairline.runtime import logs
from fairline.runtime.accepting import Loop
from fairline.runtime.settings import ProcessSettings, SettingsError, load

S = TypeVar("S", bound=ProcessSettings)

WRONG_SETTINGS = 2
FAILED = 1


def main(service: str, settings: type[S], start: Callable[[S], Awaitable[None]]) -> NoReturn:
    """Run a service to its end. Exit code 0 after a stop that was asked for, 1 for a failure, 2 for wrong settings."""
    try:
        chosen = load(settings)
    except SettingsError as error:
        _explain(service, error)
        sys.exit(WRONG_SETTINGS)
    clock.shift_by(chosen.clock_shift)
    logs.set_up(process=chosen.process or service, level=chosen.log_level, form=chosen.log_format)
    try:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(_run(start, chosen))
    except SettingsError as error:  # what only a server could tell
        _explain(service, error)
        sys.exit(WRONG_SETTINGS)
    except UnfitServerError as error:
        _explain(service, error)
        sys.exit(FAILED)
    except Exception:  # noqa: BLE001 - whatever it was, it is logged and the exit code says so
        logs.get(service).exception("failed")
        sys.exit(FAILED)
    sys.exit(0)


def _explain(service: str, error: Exception) -> None:
    for line in str(error).splitlines():
        print(f"{service}: {line}", file=sys.stderr)  # noqa: T201 - for whoever starts it, not for the log


async def _run(start: Callable[[S], Awaitable[None]], settings: S) -> None:
    await start(settings)
