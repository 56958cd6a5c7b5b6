"""What is decided before and about the upgrade: the path, the limits, the subprotocol, and who may read on. Pure.

Whoever is refused here costs no WebSocket. A bad token is not refused here: a browser's script cannot see the status
of a failed upgrade, but it can see a close code.
"""

import http
import re
from collections.abc import Sequence
from typing import Final

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.typing import Origin, Subprotocol

from fairline.errors import TokenError
from fairline.frames import SUBPROTOCOL, Hello
from fairline.ids import SaleId, TicketId

_PATH: Final = re.compile(r"/sales/([^/?#]+)/tickets/([^/?#]+)(?:\?.*)?")
_hello: Final = msgspec.json.Decoder(Hello)


class _Type(msgspec.Struct):
    """What every frame has."""

    type: str


_type: Final = msgspec.json.Decoder(_Type)


def place_of(path: str) -> tuple[str, str] | None:
    """Sale and ticket of ``/sales/{sale_id}/tickets/{ticket_id}``; nothing for any other path. A query is ignored."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    try:
        return msgspec.convert(found[1], SaleId), msgspec.convert(found[2], TicketId)
    except msgspec.ValidationError:
        return None


def wants_websocket(request: Request) -> bool:
    """Whether this is an upgrade at all; its details are the library's business."""
    return "websocket" in request.headers.get("Upgrade", "").lower()


def problem(status: http.HTTPStatus, code: str, detail: str, **headers: str) -> Response:
    """An answer in place of the upgrade: ``application/problem+json``; names of headers with ``_`` for ``-``."""
    body = msgspec.json.encode({"title": status.phrase, "status": status.value, "code": code, "detail": detail})
    sent = Headers(
        [
            ("Connection", "close"),
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
    )
    for name, value in headers.items():
        sent[name.replace("_", "-")] = value
    return Response(status.value, status.phrase, sent, body)


def select(offered: Sequence[Subprotocol]) -> tuple[Subprotocol | None, tuple[str, ...]]:
    """The subprotocol to pick, ours or none, and what else was offered beside it: the token."""
    if SUBPROTOCOL not in offered:
        return None, ()
    return Subprotocol(SUBPROTOCOL), tuple(each for each in offered if each != SUBPROTOCOL)


def origins_of(setting: str) -> list[Origin | None] | None:
    """The origins that may come, for the library: with any also none, since programs send no origin."""
    named: list[Origin | None] = [Origin(each.strip()) for each in setting.split(",") if each.strip()]
    return [None, *named] if named else None


def hello_of(message: str | bytes) -> str | None:
    """The token of a ``hello``, or nothing for a frame of a type unknown here.

    Raises ``msgspec.DecodeError`` for what is no frame at all, and ``TokenError`` for a ``hello`` without a token.
    """
    if isinstance(message, bytes):
        raise msgspec.DecodeError("frames are text")
    if _type.decode(message).type != "hello":
        return None
    try:
        return _hello.decode(message).token
    except msgspec.ValidationError:
        raise TokenError from None
