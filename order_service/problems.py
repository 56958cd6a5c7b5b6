"""What the calls of the internal port have in common: refusals as problem+json, how they are read, how answered."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from fairline.errors import UnavailableError
from fairline.runtime.health import Send
from order_service.postgres import RefusedError

LIMIT: Final = 100  # rows of a page, where none is said
MOST: Final = 1_000
RETRY_AFTER_S: Final = 2
_UNAVAILABLE: Final = 503


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """A refusal: its status, its stable code, what is wrong, and whatever else the caller needs (``more``)."""

    def __init__(self, status: int, code: str, detail: str, **more: object) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.more = more


async def respond(send: Send, answer: Awaitable[object]) -> None:
    """Send what ``answer`` gives as JSON, or its refusal."""
    headers = [(b"cache-control", b"no-store")]
    try:
        found = await _judged(answer)
        status, kind = 200, b"application/json"
    except Problem as problem:
        status, kind = problem.status, b"application/problem+json"
        found = {"type": "about:blank", "status": status, "code": problem.code, "detail": str(problem)}
        found |= problem.more
        if status == _UNAVAILABLE:
            headers.append((b"retry-after", str(RETRY_AFTER_S).encode()))
    body = msgspec.json.encode(found)
    headers += [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _judged(answer: Awaitable[object]) -> object:
    try:
        return await answer
    except RefusedError as error:
        raise Problem(400, "invalid_query", str(error)) from error
    except UnavailableError as error:
        raise Problem(_UNAVAILABLE, "unavailable", "Postgres or Kafka does not answer") from error


async def body_of(receive: Callable[[], Awaitable[dict[str, Any]]], *, most_bytes: int) -> bytes:
    """The body of a request; raises ``Problem`` above ``most_bytes``."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most_bytes:
            raise Problem(413, "body_too_large", f"at most {most_bytes} bytes")
        if not message.get("more_body"):
            return bytes(body)


def query_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The query's parameters; of two of a name the last."""
    found = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return {name: values[-1] for name, values in found.items()}


def only(query: Mapping[str, str], *names: str) -> None:
    """Raises ``Problem`` for a parameter that is none of these."""
    if unknown := sorted(set(query) - set(names)):
        raise Problem(400, "invalid_query", f"unknown: {', '.join(unknown)}")


def checked(text: str, kind: Any, name: str) -> str:
    """The text, if it is of this kind; else raises ``Problem``."""
    try:
        return str(msgspec.convert(text, kind))
    except msgspec.ValidationError as error:
        raise Problem(400, "invalid_query", f"{name}: {error}") from error


def limit_of(query: Mapping[str, str]) -> int:
    """Rows of a page; raises ``Problem`` outside of 1 to ``MOST``."""
    number = number_of(query.get("limit", str(LIMIT)), "limit")
    if not 1 <= number <= MOST:
        raise Problem(400, "invalid_query", f"limit: must be 1 to {MOST}")
    return number


def number_of(text: str, name: str = "cursor") -> int:
    """A whole number from 0 on; raises ``Problem``, which names the parameter."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Problem(400, "invalid_query", f"{name}: {text[:40]!r} is none")
    return int(text)
