"""Wall-clock time as the domain counts it. Deadlines count on ``time.monotonic`` instead (rule L4)."""

import time
from datetime import UTC, datetime


def now_ms() -> int:
    """Milliseconds since 1970, this machine's clock. For display and records, never to decide an order."""
    return time.time_ns() // 1_000_000


def at(ms: int) -> datetime:
    """The instant ``ms`` as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(instant: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime."""
    return round(instant.timestamp() * 1000)
