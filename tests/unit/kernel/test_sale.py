"""fairline.sale: what an operator may write, and what is refused, with the field that is wrong."""

from typing import Any

import msgspec
import pytest

from fairline.sale import MAX_ITEMS, SaleDefinition

LEAST: dict[str, Any] = {"sale_id": "s", "name": "S", "items": [{"sku": "x", "name": "X", "stock": 1}]}


def _read(**fields: Any) -> SaleDefinition:
    return msgspec.json.decode(msgspec.json.encode(LEAST | fields), type=SaleDefinition)


def test_the_least_that_makes_a_sale() -> None:
    sale = _read()
    assert (sale.per_buyer_limit, sale.rate_per_s, sale.capacity, sale.when_sold_out) == (1, None, None, "close_line")
    assert (sale.validator.kind, sale.message, sale.opens_at, sale.ends_at) == ("accept", None, None, None)
    assert sale.fault() is None


@pytest.mark.parametrize(
    "fields",
    [
        {"rate_per_s": 0.001},
        {"rate_per_s": 1_000_000},
        {"capacity": 1, "per_buyer_limit": 100},
        {"opens_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00.001+00:00"},
        {"opens_at": "2026-01-01T00:00:00+02:00"},
        {"validator": {"kind": "simulated", "decline_share": 1, "seed": -5}},
        {"validator": {"kind": "http", "url": "https://shop.example/check?x=1", "timeout_ms": 60_000}},
        {"items": [{"sku": f"x{n}", "name": "X", "stock": 1_000_000} for n in range(MAX_ITEMS)]},
        {"items": [{"sku": "x", "name": "X", "stock": 0}]},
    ],
)
def test_what_may_be_said(fields: dict[str, Any]) -> None:
    assert _read(**fields).fault() is None


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"rate_per_s": 0}, "rate_per_s"),
        ({"rate_per_s": -1}, "rate_per_s"),
        ({"rate_per_s": "fast"}, "rate_per_s"),
        ({"capacity": 0}, "capacity"),
        ({"capacity": 1.5}, "capacity"),
        ({"per_buyer_limit": 0}, "per_buyer_limit"),
        ({"per_buyer_limit": 101}, "per_buyer_limit"),
        ({"items": []}, "items"),
        ({"items": [{"sku": f"x{n}", "name": "X", "stock": 1} for n in range(MAX_ITEMS + 1)]}, "items"),
        ({"items": [{"sku": "x", "name": "X", "stock": -1}]}, "stock"),
        ({"items": [{"sku": "x", "name": "X", "stock": 10**9}]}, "stock"),
        ({"items": [{"sku": "x", "name": "X", "stock": 1, "price": 3}]}, "price"),
        ({"items": [{"sku": "a:b", "name": "X", "stock": 1}]}, "sku"),
        ({"sale_id": "S"}, "sale_id"),
        ({"name": ""}, "name"),
        ({"message": "m" * 501}, "message"),
        ({"opens_at": "2026-01-01T00:00:00"}, "opens_at"),
        ({"opens_at": "tomorrow"}, "opens_at"),
        ({"when_sold_out": "explode"}, "when_sold_out"),
        ({"validator": {"kind": "oracle"}}, "kind"),
        ({"validator": {"kind": "simulated", "decline_share": 1.1}}, "decline_share"),
        ({"validator": {"kind": "http", "url": "ftp://x"}}, "url"),
        ({"validator": {"kind": "http", "url": "http://a b"}}, "url"),
        ({"validator": {"kind": "http", "url": "http://a", "timeout_ms": 0}}, "timeout_ms"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_may_not_be_said_is_refused_by_the_name_of_its_field(fields: dict[str, Any], where: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=where):
        _read(**fields)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    text = msgspec.json.encode(LEAST)[:-1] + f', "rate_per_s": {number}'.encode() + b"}"
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(text, type=SaleDefinition)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"items": [{"sku": "x", "name": "X", "stock": 1}] * 2}, "items"),
        ({"opens_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-02T00:00:00Z"}, "ends_at"),
        ({"validator": {"kind": "http"}}, "validator.url"),
        ({"validator": {"url": "http://shop/check"}}, "validator.url"),
        ({"validator": {"kind": "simulated", "url": "http://shop/check"}}, "validator.url"),
        ({"validator": {"decline_share": 0.1}}, "validator.decline_share"),
        ({"validator": {"kind": "http", "url": "http://shop/", "decline_share": 0.1}}, "validator.decline_share"),
        ({"validator": {"kind": "http", "url": "http://[::1/check"}}, "validator.url"),
        ({"validator": {"kind": "http", "url": "http://shop:99999/check"}}, "validator.url"),
        ({"validator": {"kind": "http", "url": "http://shop:0/check"}}, "validator.url"),
        ({"validator": {"kind": "http", "url": "http:///check"}}, "validator.url"),
    ],
)
def test_what_no_single_field_can_say_is_said_of_the_whole(fields: dict[str, Any], fault: str) -> None:
    assert (_read(**fields).fault() or "").startswith(f"{fault}: ")
