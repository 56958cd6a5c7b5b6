"""Whose a record is that cannot be read: sale and ticket, from wherever they can still be read (V6).

Of an order, in this order: the order itself; the two ids in a value that is otherwise no order; the record's key, which
is the ticket, with the sale and the epoch that the relay wrote into the CloudEvents headers.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from fairline.events import OrderPlaced
from fairline.ids import SaleId, TicketId
from fairline.stream.reader import Record

_NO_EPOCH: Final = 2**64  # above every other, and above what a row can hold
_SOURCE: Final = re.compile(rb"/fairline/sales/([^/]+)")  # as fairline.stream.writer.cloud_event writes them
_ID: Final = re.compile(rb"order\.placed\.v1/[^/]+/([0-9]{1,18})")


class _Whose(msgspec.Struct):
    sale_id: SaleId
    ticket_id: TicketId


def whose(record: Record) -> OrderPlaced | None:
    """The order, or what remains of it; nothing where no sale and ticket can be read. No I/O."""
    order = record.fact
    if isinstance(order, OrderPlaced) and _valid({"sale_id": order.sale_id, "ticket_id": order.ticket_id}):
        return order
    rest = _object(record.value)
    headers = dict(record.headers)
    found = _valid(rest) or _valid(_labels(record, headers))
    if found is None:
        return None
    epoch = _ID.fullmatch(headers.get("ce_id", b""))
    return OrderPlaced(
        sale_id=found.sale_id,
        ticket_id=found.ticket_id,
        sku=_of(rest, "sku", str, ""),
        buyer_id=_of(rest, "buyer_id", str, ""),
        units=(),
        slots=(),
        epoch=_of(rest, "epoch", int, int(epoch[1]) if epoch else _NO_EPOCH),  # not taken for one of the past
        arrival=_of(rest, "arrival", int, 0),
        number=_of(rest, "number", int, 0),
        reserved_at_ms=_of(rest, "reserved_at_ms", int, 0),
    )


def sale_of(record: Record) -> str | None:
    """The sale that any record is about, from its value or else its headers; nothing where neither tells. No I/O."""
    for said in (_object(record.value).get("sale_id"), _labels(record, dict(record.headers))["sale_id"]):
        try:
            return str(msgspec.convert(said, SaleId))
        except msgspec.ValidationError:
            continue
    return None


def _labels(record: Record, headers: Mapping[str, bytes]) -> dict[str, Any]:
    source = _SOURCE.fullmatch(headers.get("ce_source", b""))
    return {
        "sale_id": source[1].decode(errors="replace") if source else None,
        "ticket_id": (record.key or b"").decode(errors="replace"),
    }


def _object(value: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _valid(said: Mapping[str, Any]) -> _Whose | None:
    try:
        return msgspec.convert(said, _Whose)
    except msgspec.ValidationError:
        return None


def _of(rest: Mapping[str, Any], name: str, kind: type, otherwise: Any) -> Any:
    value = rest.get(name)
    return value if isinstance(value, kind) and not isinstance(value, bool) else otherwise
