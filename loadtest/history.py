"""A client's history: what was sent, what came back, and when. The checker believes nothing else about what was told.

One file of JSON lines for one sale and one recorder (``loadtest.recorder``), only ever appended to. A recorder that is
killed loses nothing but a torn last line, which readers leave out. A call whose answer never came stays without one:
whether it happened is unknown, and the checker takes both for possible.

All times are seconds of this machine's monotonic clock, which all its processes share, so the files of several
recorders are read as one history. ``Began`` ties that clock to the time of day.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from fairline.frames import ByeFrame, ProgressFrame, TicketFrame

BuyerCall = Literal["join", "status", "leave"]
Act = Literal["create", "open", "pause", "resume", "end", "change", "stock"]
LostWrites = Literal["none", "some", "all"]
AnyFrame = TicketFrame | ProgressFrame | ByeFrame

_NO_TEXT: Final = msgspec.Raw(b"")
BUYER_CALLS: Final = frozenset({"join", "status", "leave"})


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """One line."""

    at_s: float


class Began(Record, frozen=True, kw_only=True, tag="began"):
    """The first line. ``wall_ms`` is the time of day at ``at_s``."""

    sale_id: str
    wall_ms: int
    seed: int | None = None


class Sent(Record, frozen=True, kw_only=True, tag="sent"):
    """A call that is about to be sent; numbers count within the file. Every attempt is a call of its own.

    A buyer's: ``ticket_id`` for status and leave, the others for join. An operator's: ``body`` as it goes on the wire,
    ``sku`` for stock. ``where`` is the copy that is asked, if that matters to anybody.
    """

    call: int
    what: BuyerCall | Act
    buyer_id: str = ""
    sku: str = ""
    quantity: int = 1
    key: str = ""
    ticket_id: str = ""
    body: dict[str, Any] | None = None
    where: str = ""


class Answered(Record, frozen=True, kw_only=True, tag="answered"):
    """The whole answer to a call arrived. ``code`` is a problem's; ``token`` says whether one was given.

    ``units`` is None where the answer does not tell them.
    """

    call: int
    status: int
    code: str = ""
    retry_after_s: float = 0.0
    ticket_id: str = ""
    arrival: int = 0
    number: int = 0
    position: int | None = None
    state: str = ""
    reason: str | None = None
    units: tuple[int, ...] | None = None
    token: bool = False


class Unknown(Record, frozen=True, kw_only=True, tag="unknown"):
    """Nobody will ever know by this call what became of it: no answer in time, or the connection was cut."""

    call: int
    why: str


class Opening(Record, frozen=True, kw_only=True, tag="opening"):
    """A WebSocket for a ticket is about to be opened; numbers count within the file."""

    socket: int
    ticket_id: str
    where: str = ""


class Shared(Record, frozen=True, kw_only=True, tag="shared"):
    """The text of a frame that many sockets get, written once."""

    shared: int
    frame: msgspec.Raw


class Heard(Record, frozen=True, kw_only=True, tag="heard"):
    """A frame arrived: its text, or the number of a ``Shared`` one."""

    socket: int
    frame: msgspec.Raw = _NO_TEXT
    shared: int = 0


class Closed(Record, frozen=True, kw_only=True, tag="closed"):
    """A WebSocket is gone; 1006 when nobody said a code."""

    socket: int
    code: int


class Fault(Record, frozen=True, kw_only=True, tag="fault"):
    """Something is about to be broken on purpose; numbers count within the file.

    ``lost`` is what Redis may have forgotten by it: ``some`` of its last writes (a kill without ``appendfsync always``,
    an older copy put back, a lagging replica promoted), ``all``, or ``none``. Rule D5 makes promises depend on it.
    """

    fault: int
    what: str
    target: str
    lost: LostWrites = "none"


class Healed(Record, frozen=True, kw_only=True, tag="healed"):
    """A fault is over."""

    fault: int


class Sample(Record, frozen=True, kw_only=True, tag="sample"):
    """One instant between ``asked_s`` and ``at_s``, read from Redis in one transaction by a bystander.

    ``in_flight`` are the leases; ``counts`` the ``counts`` hash, by sku: each state, ``joined``, ``admitted_total``.
    """

    asked_s: float
    in_flight: int
    counts: dict[str, dict[str, int]]


class Moved(Record, frozen=True, kw_only=True, tag="moved"):
    """What the sale's channel said had moved, in Redis's own order. An empty list: something may have been missed."""

    ticket_ids: tuple[str, ...]


class Rest(Record, frozen=True, kw_only=True, tag="rest"):
    """The end was waited for: ``rested`` if nothing was on its way any more, and nobody waited who could be served."""

    rested: bool


AnyRecord = (
    Began | Sent | Answered | Unknown | Opening | Shared | Heard | Closed | Fault | Healed | Sample | Moved | Rest
)
_decode: Final = msgspec.json.Decoder(AnyRecord).decode
_frame: Final = msgspec.json.Decoder(AnyFrame).decode


class HistoryError(Exception):
    """A history that cannot be read: which line, and why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call and its answer; None while nobody knows."""

    sent: Sent
    answer: Answered | None

    @property
    def received_s(self) -> float | None:
        """When its answer was there."""
        return None if self.answer is None else self.answer.at_s


@dataclass(frozen=True, slots=True)
class Socket:
    """A WebSocket from being asked for to its end; None while it was open as far as anybody knows."""

    opened_s: float
    ticket_id: str
    closed_s: float | None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as a buyer heard it."""

    at_s: float
    socket: Socket
    frame: AnyFrame


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault and its end; None where that was not recorded."""

    fault: Fault
    until_s: float | None


@dataclass(slots=True)
class History:
    """Everything that was recorded of one sale, each list in the order of time. ``torn`` counts lines left out."""

    sale_id: str = ""
    began: list[Began] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    acts: list[Call] = field(default_factory=list)
    sockets: list[Socket] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    faults: list[Trouble] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    moved: list[Moved] = field(default_factory=list)
    rests: list[Rest] = field(default_factory=list)
    torn: int = 0


def read(paths: Iterable[Path]) -> History:
    """One history of all the files; raises ``HistoryError`` for a line that is none, unless it is a torn last one."""
    history = History()
    for path in sorted(paths):
        lines = _lines(path, history)
        try:
            gather(lines, history)
        except (ValueError, LookupError) as error:
            raise HistoryError(f"{path}: {error}") from error
    if not history.began:
        raise HistoryError("there is no history: name a file that a recorder has written")
    order(history)
    return history


def order(history: History) -> None:
    """Put each list into the order of time."""
    for calls in (history.calls, history.acts):
        calls.sort(key=lambda call: call.sent.at_s)
    history.faults.sort(key=lambda trouble: trouble.fault.at_s)
    history.sockets.sort(key=lambda socket: socket.opened_s)
    for timed in (history.frames, history.samples, history.moved, history.rests):
        timed.sort(key=lambda record: record.at_s)


def gather(records: Iterable[AnyRecord], history: History) -> None:
    """Add the records of one file, in their order. Raises ``ValueError`` or ``LookupError`` where they do not fit."""
    of: dict[type[AnyRecord], list[Any]] = defaultdict(list)
    for record in records:
        of[type(record)].append(record)
    for began in of[Began]:
        if history.sale_id not in {"", began.sale_id}:
            raise ValueError(f"is of sale {began.sale_id}, the files before it of {history.sale_id}")
        history.sale_id = began.sale_id
    answers = {answered.call: answered for answered in of[Answered]}
    for sent in of[Sent]:
        calls = history.calls if sent.what in BUYER_CALLS else history.acts
        calls.append(Call(sent, answers.get(sent.call)))
    closed = {each.socket: (each.at_s, each.code) for each in of[Closed]}
    sockets = {
        each.socket: Socket(each.at_s, each.ticket_id, *closed.get(each.socket, (None, None))) for each in of[Opening]
    }
    history.sockets += sockets.values()
    shared = {each.shared: _frame(each.frame) for each in of[Shared]}
    for heard in of[Heard]:
        frame = shared[heard.shared] if heard.shared else _frame(heard.frame)
        history.frames.append(Frame(heard.at_s, sockets[heard.socket], frame))
    ends = {healed.fault: healed.at_s for healed in of[Healed]}
    history.faults += (Trouble(fault, ends.get(fault.fault)) for fault in of[Fault])
    history.began += of[Began]
    history.samples += of[Sample]
    history.moved += of[Moved]
    history.rests += of[Rest]


def _lines(path: Path, history: History) -> list[AnyRecord]:
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    history.torn += bool(torn)
    records = []
    for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
        try:
            records.append(_decode(line))
        except (msgspec.DecodeError, RecursionError) as error:
            raise HistoryError(f"{path}:{number}: {error}") from error
    return records
