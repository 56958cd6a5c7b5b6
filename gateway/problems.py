"""Every refusal of the gateway: one stable code per cause, told as ``application/problem+json`` (RFC 9457).

The table is the catalogue: docs/http.md lists it and OpenAPI is written from it. Where waiting helps, ``Retry-After``
says how long, in whole seconds and differently from client to client, so that a refused crowd does not come back at
one instant.
"""

import math
import random
from typing import Any, Final, NamedTuple

import msgspec

from fairline.errors import FairlineError, FencedError, OverloadedError, TokenError, UnavailableError

Headers = list[tuple[bytes, bytes]]

# For whatever is no page: nothing in it may run or be framed.
GUARDS: Final[Headers] = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
POLICY: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
MEDIA_TYPE: Final = b"application/problem+json"
URN: Final = "urn:fairline:problem:"
_SHOWN: Final = 64  # characters of a client's own words that a message repeats


class Kind(NamedTuple):
    """One row of the catalogue. ``retry_s``: the least ``Retry-After``; nothing where waiting does not help."""

    status: int
    detail: str
    retry_s: int | None = None


KINDS: Final[dict[str, Kind]] = {
    "malformed_body": Kind(400, "The body is not one JSON object in UTF-8."),
    "missing_field": Kind(400, "A field that this call needs is missing."),
    "unknown_field": Kind(400, "This call has no such field."),
    "immutable_field": Kind(400, "This field cannot be changed."),
    "invalid_field": Kind(400, "A field has a value that is not allowed."),
    "invalid_idempotency_key": Kind(400, "Idempotency-Key must be 1 to 128 visible ASCII characters."),
    "invalid_query": Kind(400, "A query parameter is unknown or has a value that is not allowed."),
    "bad_request": Kind(400, "The request is not one that HTTP allows here."),
    "token_required": Kind(401, "This call needs the ticket's token: Authorization: Bearer TOKEN."),
    "bad_token": Kind(401, "This is not a genuine token of this ticket."),
    "key_required": Kind(401, "This call needs an operator's key: Authorization: Bearer KEY."),
    "bad_key": Kind(401, "No operator has this key, or it was revoked."),
    "not_allowed": Kind(403, "The role of this key does not allow this call."),
    "not_found": Kind(404, "There is nothing at this address."),
    "unknown_sale": Kind(404, "There is no such sale."),
    "unknown_sku": Kind(404, "This sale has no such sku."),
    "unknown_ticket": Kind(404, "There is no such ticket."),
    "unknown_key": Kind(404, "There is no key of this name."),
    "unknown_dead_letter": Kind(404, "There is no such dead letter."),
    "method_not_allowed": Kind(405, "This address does not take this method."),
    "slow_body": Kind(408, "The body did not arrive in time."),
    "already_bought": Kind(409, "This buyer holds as many units of this sku as a buyer may."),
    "over_limit": Kind(409, "With this ticket the buyer would hold more units of this sku than a buyer may."),
    "sold_out": Kind(409, "All units of this sku are sold."),
    "sale_closed": Kind(409, "This sale has ended."),
    "not_waiting": Kind(409, "Only a WAITING ticket can leave the line; nothing was changed."),
    "sale_exists": Kind(409, "There is another sale with this id."),
    "illegal_move": Kind(409, "The sale cannot go there from its present state."),
    "stale_version": Kind(409, "The version is not above the one of the last change; nothing was changed."),
    "stock_in_use": Kind(409, "Units are in somebody's hand; nothing was changed."),
    "key_exists": Kind(409, "There is a key of this name."),
    "too_many_keys": Kind(409, "There are as many operator keys as there may be; revoke one."),
    "already_handled": Kind(
        409, "This dead letter was handled before, which is done once; `state` says how. Nothing was changed."
    ),
    "order_failed": Kind(409, "This order has failed for good and is never sent again; readmit its buyer instead."),
    "record_too_large": Kind(409, "Its topic takes no record as large as this one any more: raise its limit."),
    "order_confirmed": Kind(409, "This order is confirmed: there is nothing to put right."),
    "no_verdict": Kind(409, "This order has no verdict yet; replay it."),
    "no_ticket": Kind(409, "This dead letter is no order whose ticket can be read, so there is nobody to readmit."),
    "not_released": Kind(409, "The old ticket is not RELEASED in Redis, or not yet; nothing was changed."),
    "ticket_archived": Kind(409, "Redis does not keep the old ticket any more, so nobody can be readmitted for it."),
    "has_live_ticket": Kind(409, "The buyer has joined again and keeps that ticket; nothing was changed."),
    "archived": Kind(410, "This sale was closed long ago; its tickets are in the archive. What was bought is final."),
    "body_too_large": Kind(413, "The body is larger than this call takes."),
    "wrong_content_type": Kind(415, "The body must be sent as Content-Type: application/json."),
    "idempotency_key_reused": Kind(422, "This Idempotency-Key made a ticket for another quantity or accept_fewer."),
    "not_open": Kind(425, "This sale has not opened yet.", 2),
    "too_many_requests": Kind(
        429, "Too many requests. Reserved for limits by client, which belong in front; the gateway has none.", 1
    ),
    "internal": Kind(500, "Something went wrong here. It was logged under this request id."),
    "bad_gateway": Kind(502, "The order service gave no usable answer."),
    "recovering": Kind(503, "The sale is halted: Redis may have lost data and is being rebuilt. Places are kept.", 2),
    "unavailable": Kind(503, "A server behind this one did not answer in time.", 1),
    "overloaded": Kind(503, "Too many requests are waiting already.", 1),
    "line_full": Kind(503, "As many tickets of this sale wait as may.", 5),
    "not_acknowledged": Kind(503, "Postgres has not acknowledged it yet; the same call again is safe.", 2),
}


class Problem(Exception):  # noqa: N818 - the standard's own word
    """An answer that is a refusal. ``more`` are members beside the standard ones."""

    def __init__(self, code: str, detail: str | None = None, *, retry_s: float | None = None, **more: Any) -> None:
        super().__init__(code)
        self.code = code
        self.kind = KINDS[code]
        self.detail = detail or self.kind.detail
        self.more = more
        self._retry_s = self.kind.retry_s if retry_s is None else retry_s
        self.headers: Headers = []

    def answer(self, request_id: str) -> tuple[int, Headers, bytes]:
        """Status, headers and body."""
        body = {
            "type": URN + self.code,
            "title": self.code.replace("_", " ").capitalize(),
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.code,
            "instance": f"urn:fairline:request:{request_id}",
            **self.more,
        }
        headers: Headers = [(b"content-type", MEDIA_TYPE), (b"cache-control", b"no-store"), *self.headers]
        if self._retry_s is not None:
            headers.append((b"retry-after", b"%d" % jittered(self._retry_s)))
        return self.kind.status, headers, msgspec.json.encode(body)


def jittered(seconds: float) -> int:
    """Whole seconds, at least those asked for; at most twice as many, or two more where they are few."""
    least = max(1, math.ceil(seconds))
    return least + int(random.random() * (max(2, least) + 1))  # noqa: S311 - spreads load, hides nothing


def shown(text: str) -> str:
    """A client's own words, short enough to be repeated to it."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def of_error(error: FairlineError) -> Problem | None:
    """The refusal that an error of the kernel stands for; nothing for one that should not have reached a client."""
    if isinstance(error, TokenError):
        problem = Problem("bad_token", str(error))
        problem.headers.append((b"www-authenticate", b'Bearer realm="fairline"'))
        return problem
    if isinstance(error, FencedError | UnavailableError | OverloadedError):
        return Problem(error.code)  # its message may name a server's address
    return None
