"""What the scripts answer, as far as the services read it: arrays in this order of fields."""

import msgspec

from fairline.store.scripts import TicketRecord


class JoinResult(msgspec.Struct, array_like=True):
    """One joiner's word and, where there is one, the ticket."""

    word: str
    ticket_id: str = ""
    record: TicketRecord | None = None
    rank: int = -1


class JoinReply(msgspec.Struct, array_like=True):
    """Answer of ``join.lua``; ``places`` are (served, older), one a sku."""

    word: str
    epoch: int
    places: list[tuple[int, int]]
    results: list[JoinResult]


class ReadResult(msgspec.Struct, array_like=True):
    """One ticket, or no record where it is unknown."""

    record: TicketRecord | None = None
    rank: int = -1


class ReadReply(msgspec.Struct, array_like=True):
    """Answer of ``read.lua``."""

    word: str
    epoch: int
    places: list[tuple[int, int]]
    results: list[ReadResult]


class LookRow(msgspec.Struct, array_like=True):
    """One sku, now."""

    served: int
    waiting: int
    older: int
    free: int
    outlook: str
    stock: int
    version: int


class LookReply(msgspec.Struct, array_like=True):
    """Answer of ``look.lua``."""

    word: str
    now_ms: int
    meta: dict[str, str]
    rows: list[LookRow]


class StatsReply(msgspec.Struct, array_like=True):
    """Answer of ``stats.lua``; ``counts`` is flat, ``stocks`` are (stock, free, high, withdrawn), one a sku."""

    word: str
    now_ms: int
    state: str
    counts: list[str]
    stocks: list[tuple[int, int, int, int]]
    in_flight: int
    outbox: int
    share: float = 1.0
    because: str = ""


class LeaveReply(msgspec.Struct, array_like=True):
    """Answer of ``leave.lua``."""

    word: str
    record: TicketRecord | None = None


class WordReply(msgspec.Struct, array_like=True):
    """One word."""

    word: str


class ChangeReply(msgspec.Struct, array_like=True):
    """Answer of ``sale_change.lua``."""

    word: str
    state: str
    version: int


class NumberReply(msgspec.Struct, array_like=True):
    """A word and one number."""

    word: str
    number: int = 0
