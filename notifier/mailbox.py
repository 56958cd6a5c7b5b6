"""What one connection still has to be told: the newest progress, every result. Decides what waits and in what order.

Progress is worthless once there is newer progress, so a client that does not read costs one frame of it. A result must
arrive, so results wait in order, before any progress; a ticket has few, so a client that lets the bound be reached is
closed and finds the present state when it comes back. One caller at a time (the event loop); nothing here waits.
"""

from collections import deque
from typing import Protocol

from fairline.frames import CloseCode


class Wire(Protocol):
    """The connection under a mailbox."""

    @property
    def blocked(self) -> bool:
        """Whether so much is unsent that nothing more is to be written now."""

    def write(self, frame: bytes) -> None:
        """Send the bytes of one frame; without effect once the connection is closing."""

    def shut(self, code: int) -> None:
        """Close; without effect when it is closing already."""


class Mailbox:
    """The frames of one connection, as bytes that can be written as they are."""

    __slots__ = ("_last", "_limit", "_progress", "_results", "_wire")

    def __init__(self, wire: Wire, *, limit: int) -> None:
        self._wire = wire
        self._limit = limit
        self._results: deque[bytes] | None = None  # made when first needed: most clients never need it
        self._progress: bytes | None = None
        self._last: int | None = None

    def put_progress(self, frame: bytes) -> bool:
        """Send it, or keep it in place of the older one; whether it went out at once."""
        if self._wire.blocked:
            self._progress = frame
            return False
        self._wire.write(frame)
        return True

    def put_result(self, frame: bytes) -> None:
        """Send it, or keep it behind the others; at the bound the connection is closed instead."""
        if not self._wire.blocked:
            self._wire.write(frame)
            return
        self._results = deque() if self._results is None else self._results
        if len(self._results) >= self._limit:
            self._wire.shut(CloseCode.TOO_SLOW)
            return
        self._results.append(frame)

    def finish(self, code: int) -> None:
        """Close with this code once every result is out; the first code counts."""
        if self._last is None:
            self._last = code
        self._close_when_empty()

    def flush(self) -> None:
        """The wire takes more again: results in order, then the newest progress, then the close if one is due."""
        while self._results and not self._wire.blocked:
            self._wire.write(self._results.popleft())
        if self._progress is not None and not self._wire.blocked:
            frame, self._progress = self._progress, None
            self._wire.write(frame)
        self._close_when_empty()

    def _close_when_empty(self) -> None:
        if self._last is not None and not self._results:
            self._wire.shut(self._last)
