"""Bodies and headers of requests: read with a limit of size and time, decoded strictly, refused by the field's name.

A body that says it is too large is refused before a byte of it is read; one in chunks as soon as it is. The last one
of two equal names counts, as RFC 8259 leaves open and every decoder here does.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import inspect

from gateway.problems import Problem, shown

Scope = Any  # Litestar and uvicorn each have a type of their own for the same mapping
Receive = Callable[[], Awaitable[Any]]
T = TypeVar("T")

BUYERS_LIMIT_BYTES: Final = 4 * 1024
OPERATORS_LIMIT_BYTES: Final = 64 * 1024
# After a refusal the rest of such a body is read and dropped, so that the client sees the answer; of a larger one not.
_DROPPED_BYTES: Final = 1024 * 1024

_PATH: Final = re.compile(r" - at `\$\.?(.*)`$")
_NAMED: Final = re.compile(r"`([^`]*)`")


class ClientGoneError(Exception):
    """The client hung up before its body was complete: there is nobody to answer."""


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this (lower-case) name."""
    for each, value in scope["headers"]:
        if each == name:
            text: str = value.decode("latin-1")
            return text
    return None


def bearer(scope: Scope) -> str | None:
    """The credential of ``Authorization: Bearer``; nothing where there is none."""
    scheme, _, credential = (header(scope, b"authorization") or "").partition(" ")
    return credential.strip() or None if scheme.lower() == "bearer" else None


async def read(scope: Scope, receive: Receive, *, limit_bytes: int, within_s: float) -> bytes:
    """The whole body; raises ``Problem`` (413, 408) or ``ClientGoneError``."""
    said = header(scope, b"content-length")
    if said is not None and said.isascii() and said.isdigit() and int(said[:19]) > limit_bytes:
        raise _too_large(limit_bytes, closing=int(said[:19]) > _DROPPED_BYTES)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(within_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                part = message.get("body", b"")
                size += len(part)
                if size > limit_bytes:
                    raise _too_large(limit_bytes, closing=True)
                parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        problem = Problem("slow_body", f"The body did not arrive in {within_s:g} s.")
        problem.headers.append((b"connection", b"close"))
        raise problem from None


def _too_large(limit_bytes: int, *, closing: bool) -> Problem:
    problem = Problem("body_too_large", f"The body may have at most {limit_bytes} bytes.", limit_bytes=limit_bytes)
    if closing:
        problem.headers.append((b"connection", b"close"))
    return problem


class Body(Generic[T]):
    """The body of one call: how large it may be and what type it has."""

    def __init__(self, type_: type[T], *, limit_bytes: int, within_s: float, may_be_empty: bool = False) -> None:
        self._decode = msgspec.json.Decoder(type_).decode
        self._limit_bytes = limit_bytes
        self._within_s = within_s
        self._may_be_empty = may_be_empty
        self._allowed = dict(_descriptions(inspect.type_info(type_)))

    async def read(self, scope: Scope, receive: Receive) -> T:
        """Read and decode; raises ``Problem`` for everything that is wrong."""
        body = await read(scope, receive, limit_bytes=self._limit_bytes, within_s=self._within_s)
        if not body and self._may_be_empty:
            return self._decode(b"{}")
        kind = header(scope, b"content-type")
        if kind != "application/json" and (kind or "").partition(";")[0].strip().lower() != "application/json":
            raise Problem("wrong_content_type")
        return self.decode(body)

    def decode(self, body: bytes) -> T:
        """The value of a body; raises ``Problem`` with the ``field`` and what is allowed there."""
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise self._fault(str(error)) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
            raise Problem("malformed_body") from None

    def _fault(self, said: str) -> Problem:
        found = _PATH.search(said)
        path = found[1] if found else ""
        message = _PATH.sub("", said)
        for start, code in (("Object contains unknown field", "unknown_field"), ("Object missing", "missing_field")):
            if message.startswith(start):
                name = _NAMED.search(message)
                field = f"{path}.{name[1]}".removeprefix(".") if name else path
                return Problem(code, f"{KIND_WORDS[code]}: {shown(field)}", field=shown(field))
        if not path:
            return Problem("malformed_body", f"The body is no such object: {message}")
        allowed = self._allowed.get(re.sub(r"\[[^\]]*\]", "", path))
        detail = f"{path}: {allowed}" if allowed and "regex" in message else f"{path}: {message}"
        if allowed and "regex" not in message:
            detail += f" ({allowed})"
        return Problem("invalid_field", detail, field=path)


KIND_WORDS: Final = {"unknown_field": "This call has no such field", "missing_field": "This field is required"}


def invalid(field: str, detail: str) -> Problem:
    """The refusal of a value that has the right type and is wrong all the same."""
    return Problem("invalid_field", f"{field}: {detail}", field=field)


def _descriptions(kind: inspect.Type, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(kind, inspect.Metadata):
        described = (kind.extra_json_schema or {}).get("description")
        if described:
            yield path, described
        yield from _descriptions(kind.type, path)
    elif isinstance(kind, inspect.UnionType):
        for each in kind.types:
            yield from _descriptions(each, path)
    elif isinstance(kind, inspect.VarTupleType | inspect.ListType):
        yield from _descriptions(kind.item_type, path)
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            yield from _descriptions(field.type, f"{path}.{field.encode_name}".removeprefix("."))
