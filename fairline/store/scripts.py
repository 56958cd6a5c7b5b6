"""Lua scripts as files, called by the names in their headers.

The header of a script is its contract. It lists each key and argument by name, so a caller hands over the keys of a
sale and named arguments, and what does not fit fails before anything is sent:

    KEYS  1 meta      hash    ...
          2* line     zset    one for each sku
    ARGV  1 skus      packed list of skus

A name with ``*`` stands for one key a sku; only the last ones may have it. Arguments go as text, or packed
(MessagePack) when they are lists; every reply is one packed value, because a reply array ends at its first nil and
drops the fractions of its numbers.

Before each body stands ``shared/prelude.lua`` (fence, records, counts) and what the body asks for besides with
``-- include NAME``; before that, two tables that Python writes from ``fairline.states`` and ``TicketRecord``, so that
Lua and Python cannot disagree about them.
"""

import hashlib
import re
from importlib.resources import files
from typing import Any, Final, Generic, TypeVar

import msgspec
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from fairline.errors import FencedError
from fairline.states import MOVES
from fairline.store.keys import SaleKeys

Value = str | int | float | bytes | list[Any] | tuple[Any, ...] | dict[str, Any]

_SLOT = re.compile(r"^\s*(?:(KEYS|ARGV)\s+)?(\d+)(\*?)\s+([a-z_]+)\s{2,}\S", re.MULTILINE)
_OUTCOME = re.compile(r"^\s{6}([A-Z][A-Z_]+)\s{2,}\S", re.MULTILINE)
_INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)
_pack: Final = msgspec.msgpack.Encoder().encode
_FENCED: Final = _pack(["FENCED"])

Reply = TypeVar("Reply")


class TicketRecord(msgspec.Struct, array_like=True, kw_only=True):
    """A ticket as it lies in Redis; the order of the fields is the order of the record."""

    state: str
    sku: str
    buyer: str
    quantity: int
    arrival: int
    number: int
    lease: str  # `unseen` while WAITING: its buyer has not come since the sale was rebuilt (D3)
    tries: int
    back: int  # 1 once a lease of it has ended, or it is readmitted: its claim to a unit stays (U3)
    units: tuple[int, ...]
    slots: tuple[int, ...]
    reason: str
    joined_ms: int
    changed_ms: int
    sends: int
    asked: int = 0  # where fewer units are fine: so many were asked for, and quantity is what is left of it (Q1)


def _shared_tables() -> str:
    fields = ", ".join(f"{field} = {at}" for at, field in enumerate(TicketRecord.__struct_fields__, 1))
    moves = ", ".join(f'["{state}:{event}"] = "{target}"' for (state, event), target in MOVES.items())
    return f"local F = {{ {fields} }}\nlocal MOVES = {{ {moves} }}\n"


class Script(Generic[Reply]):
    """One Lua file of a package's ``lua`` folder, and the type of what it answers."""

    def __init__(self, package: str, name: str, reply: type[Reply]) -> None:
        self.name = name
        self._decode = msgspec.msgpack.Decoder(reply).decode
        folder = files(package) / "lua"
        self.source = (folder / f"{name}.lua").read_text()
        header, end, self.body = self.source.removeprefix("--[[").partition("--]]")
        if not end:
            raise ValueError(f"{name}.lua does not begin with its header")
        self.header = header
        self.keys: list[str] = []
        self.repeated: list[str] = []
        self.args: list[str] = []
        self._read_header()
        self.outcomes: tuple[str, ...] = tuple(_OUTCOME.findall(header.partition("Returns")[2]))
        shared = ["prelude", *_INCLUDE.findall(self.body)]
        kernel = files("fairline.store") / "lua" / "shared"
        self.text = _shared_tables() + "".join((kernel / f"{part}.lua").read_text() for part in shared) + self.body
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def _read_header(self) -> None:
        kind = ""
        for found, number, star, name in _SLOT.findall(self.header.partition("Returns")[0]):
            kind = found or kind
            into = self.args if kind == "ARGV" else self.repeated if star else self.keys
            expected = len(self.keys) + 1 if kind == "KEYS" else len(self.args) + 1
            if int(number) != expected and not star:
                raise ValueError(f"{self.name}.lua: {kind} {number} should be {expected}")
            into.append(name)

    async def __call__(self, redis: Redis, keys: SaleKeys, **args: Value) -> Reply:
        """Run it and return its reply, whose first member is its outcome.

        Raises ``FencedError`` when Redis is not the one the sale was fenced to (D1). Retries nothing but an
        unknown script, which is known not to have run.
        """
        if set(args) != set(self.args):
            raise TypeError(f"{self.name} takes {sorted(self.args)}, got {sorted(args)}")
        slots = [getattr(keys, name) for name in self.keys]
        for name in self.repeated:
            slots.extend(getattr(keys, name))
        values = [_as_argument(args[name]) for name in self.args]
        try:
            reply = await redis.evalsha(self.sha, len(slots), *slots, *values)
        except NoScriptError:
            reply = await redis.eval(self.text, len(slots), *slots, *values)
        if reply == _FENCED:
            raise FencedError
        return self._decode(reply)


def _as_argument(value: Value) -> str | int | float | bytes:
    if isinstance(value, (list, tuple, dict)):
        return _pack(value)
    if isinstance(value, float):
        return repr(value)
    return value
