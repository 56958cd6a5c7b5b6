"""V6: whose an unreadable order is, by its value, else by its key and the headers of the relay."""

import uuid
from typing import Any

import pytest

from fairline.events import encode
from fairline.stream.reader import Record
from fairline.stream.writer import cloud_event
from order_service.remains import _NO_EPOCH, whose
from tests.support.orders import order

TICKET = str(uuid.uuid4())


def unreadable(value: bytes = b"\x00{]", *, key: bytes | None = TICKET.encode(), epoch: int = 3, **more: Any) -> Record:
    headers = more.get("headers", cloud_event(order("spring", ticket_id=TICKET, epoch=epoch)))
    return Record("t", 0, 0, key, value, tuple(headers), None, "unreadable")


def test_an_order_is_itself() -> None:
    mine = order("spring")
    assert whose(Record("t", 0, 0, b"other", encode(mine), (), mine)) is mine


def test_v6_a_readable_key_and_the_headers_of_the_relay_say_whose_it_is() -> None:
    found = whose(unreadable())
    assert found is not None
    assert (found.sale_id, found.ticket_id, found.epoch, found.units) == ("spring", TICKET, 3, ())


def test_the_value_is_believed_before_the_headers() -> None:
    other = str(uuid.uuid4())
    value = f'{{"sale_id": "summer", "ticket_id": "{other}", "epoch": 7, "sku": "seat", "units": "many"}}'
    found = whose(unreadable(value.encode()))
    assert found is not None
    assert (found.sale_id, found.ticket_id, found.epoch, found.sku) == ("summer", other, 7, "seat")


@pytest.mark.parametrize(
    "record",
    [
        unreadable(key=None),
        unreadable(key=b""),
        unreadable(key=b"no uuid"),
        unreadable(key=b"\xff\xfe"),
        unreadable(headers=()),
        unreadable(headers=[("ce_source", b"/fairline/sales/No Sale")]),
        unreadable(headers=[("ce_source", b"/fairline/sales/a/b")]),
        unreadable(headers=[("ce_source", b"\xff")]),
        unreadable(b'["a list"]', key=None),
        unreadable(b"[" * 100_000, key=None),
    ],
)
def test_v6_without_a_readable_key_and_sale_it_is_nobodys(record: Record) -> None:
    assert whose(record) is None


@pytest.mark.parametrize(
    "said", [b"", b"order.placed.v1/x", b"order.placed.v1/x/-1", b"order.placed.v1/x/" + b"9" * 19]
)
def test_an_epoch_that_cannot_be_read_is_not_taken_for_one_of_the_past(said: bytes) -> None:
    found = whose(unreadable(headers=[("ce_source", b"/fairline/sales/spring"), ("ce_id", said)]))
    assert found is not None
    assert found.epoch == _NO_EPOCH
