"""Writes a client's history (``loadtest.history``) as it happens.

with Recorder(folder / "buyers-1.jsonl", sale_id="spring") as history:
    call = history.sent("join", buyer_id="anna", sku="seat", key="k-1")
    ...                                          # send it
    history.answer(call, 202, body)              # all there is to know of an answer of the HTTP interface
    history.unknown(call, why="TimeoutError")    # or this, where there was no answer, or half of one
"""

import time
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from loadtest.history import (
    Act,
    Answered,
    AnyRecord,
    Began,
    BuyerCall,
    Closed,
    Fault,
    Healed,
    Heard,
    LostWrites,
    Opening,
    Rest,
    Sent,
    Shared,
    Unknown,
)

_SHARED_KEPT: Final = 64
_encode: Final = msgspec.json.Encoder().encode


class _Said(msgspec.Struct):
    """What a history keeps of an answer's body: of a ticket, or of a problem."""

    code: str = ""
    ticket_id: str = ""
    arrival: int = 0
    number: int = 0
    position: int | None = None
    state: str = ""
    reason: str | None = None
    units: tuple[int, ...] | None = None
    token: str | None = None


_said: Final = msgspec.json.Decoder(_Said).decode


class Recorder:
    """Writes one file; use ``with``. Belongs to one thread. One ``write`` a line, about 3 us, and no more memory.

    A file that is there already is refused, so that no history is ever mixed into another.
    """

    def __init__(self, path: Path, *, sale_id: str, seed: int | None = None) -> None:
        self._file = path.open("xb", buffering=0)
        self._numbers = 0
        self._shared: OrderedDict[bytes, int] = OrderedDict()
        self.write(Began(at_s=time.monotonic(), sale_id=sale_id, wall_ms=time.time_ns() // 1_000_000, seed=seed))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, record: AnyRecord) -> None:
        """Append a record that was made elsewhere. Most are written by the methods below, which take the time."""
        self._file.write(_encode(record) + b"\n")

    def sent(self, what: BuyerCall | Act, **about: Any) -> int:
        """Call this right before sending; gives the call's number. ``about``: the fields of ``Sent``."""
        call = self._next()
        self.write(Sent(at_s=time.monotonic(), call=call, what=what, **about))
        return call

    def answered(self, call: int, *, status: int, **said: Any) -> None:
        """Call this when the whole answer is there. ``said``: the fields of ``Answered``."""
        self.write(Answered(at_s=time.monotonic(), call=call, status=status, **said))

    def answer(self, call: int, status: int, body: bytes, *, retry_after_s: float = 0.0) -> None:
        """As ``answered``, for the body as it came. Nothing is said by one that is no JSON of ours."""
        try:
            said = _said(body)
        except msgspec.DecodeError:
            said = _Said()
        told = {name: getattr(said, name) for name in _Said.__struct_fields__ if name != "token"}
        self.answered(call, status=status, retry_after_s=retry_after_s, token=said.token is not None, **told)

    def unknown(self, call: int, *, why: str) -> None:
        """Call this when no answer will come any more."""
        self.write(Unknown(at_s=time.monotonic(), call=call, why=why))

    def opening(self, ticket_id: str, *, where: str = "") -> int:
        """Call this right before connecting; gives the socket's number."""
        socket = self._next()
        self.write(Opening(at_s=time.monotonic(), socket=socket, ticket_id=ticket_id, where=where))
        return socket

    def heard(self, socket: int, frame: bytes) -> None:
        """A text frame arrived. One that came to another socket just now is written by its number."""
        now = time.monotonic()
        if b'"type":"progress"' not in frame:
            self.write(Heard(at_s=now, socket=socket, frame=msgspec.Raw(frame)))
            return
        shared = self._shared.get(frame)
        if shared is None:
            shared = self._shared[frame] = self._next()
            self.write(Shared(at_s=now, shared=shared, frame=msgspec.Raw(frame)))
            if len(self._shared) > _SHARED_KEPT:
                self._shared.popitem(last=False)
        self.write(Heard(at_s=now, socket=socket, shared=shared))

    def closed(self, socket: int, *, code: int) -> None:
        """The socket is gone."""
        self.write(Closed(at_s=time.monotonic(), socket=socket, code=code))

    def fault(self, what: str, *, target: str, lost: LostWrites = "none") -> int:
        """Call this right before breaking something; gives the fault's number."""
        fault = self._next()
        self.write(Fault(at_s=time.monotonic(), fault=fault, what=what, target=target, lost=lost))
        return fault

    def healed(self, fault: int) -> None:
        """The fault is over."""
        self.write(Healed(at_s=time.monotonic(), fault=fault))

    def rest(self, *, rested: bool) -> None:
        """The wait for quiet is over."""
        self.write(Rest(at_s=time.monotonic(), rested=rested))

    def _next(self) -> int:
        self._numbers += 1
        return self._numbers
