"""Wall-clock time as the domain counts it. Deadlines count on ``time.monotonic`` instead (rule L4)."""

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path

_shifted_by: Path | None = None


def shift_by(file: str) -> None:
    """For tests: from now on this process's clock is wrong by the milliseconds in this file, read at each look.

    While there is no such file, or no number in it, the clock is right; so it is for good with an empty name.
    """
    global _shifted_by  # noqa: PLW0603 - a process has one clock
    _shifted_by = Path(file) if file else None


def now_ms() -> int:
    """Milliseconds since 1970, this machine's clock. For display and records, never to decide an order."""
    now = time.time_ns() // 1_000_000
    if _shifted_by is not None:
        with contextlib.suppress(OSError, ValueError):
            now += int(_shifted_by.read_text())
    return now


def at(ms: int) -> datetime:
    """The instant ``ms`` as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(instant: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime."""
    return round(instant.timestamp() * 1000)
