"""Bodies: size, time, strictness, and messages that name the field."""

import asyncio
import json
from typing import Any

import pytest

from fairline.sale import SaleDefinition
from gateway.bodies import Body, ClientGoneError, bearer, read
from gateway.problems import Problem
from gateway.schemas import JoinRequest, SalePatch

JOIN = Body(JoinRequest, limit_bytes=4096, within_s=1)
SALE = Body(SaleDefinition, limit_bytes=65536, within_s=1)


def scope(**headers: str) -> dict[str, Any]:
    return {"headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]}


class Sender:
    """Sends parts of a body, and counts how many were asked for."""

    def __init__(self, *parts: bytes, then: str = "end") -> None:
        self.parts = list(parts)
        self.then = then
        self.asked = 0

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if self.parts:
            part = self.parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self.parts) or self.then != "end"}
        if self.then == "silence":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}


def refused(body: Body[Any], text: str | bytes) -> Problem:
    with pytest.raises(Problem) as caught:
        body.decode(text if isinstance(text, bytes) else text.encode())
    return caught.value


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read() -> None:
    sender = Sender(b"x" * 5000)
    with pytest.raises(Problem, match="body_too_large"):
        await read(scope(content_length="5000"), sender, limit_bytes=4096, within_s=1)
    assert sender.asked == 0


@pytest.mark.parametrize(
    ("headers", "parts", "closes"),
    [
        ({"content_length": "5000"}, [], False),
        ({"content_length": "1048576"}, [], False),
        ({"content_length": "1048577"}, [], True),
        ({"content_length": "9" * 1000}, [], True),
        ({}, [b"x" * 5000], True),
    ],
)
async def test_the_rest_of_a_body_is_read_to_its_end_only_where_that_is_near(
    headers: dict[str, str], parts: list[bytes], *, closes: bool
) -> None:
    with pytest.raises(Problem, match="body_too_large") as caught:
        await read(scope(**headers), Sender(*parts), limit_bytes=4096, within_s=1)
    assert ((b"connection", b"close") in caught.value.headers) is closes


async def test_a_length_of_a_thousand_digits_is_too_large() -> None:
    with pytest.raises(Problem, match="body_too_large"):
        await read(scope(content_length="9" * 1000), Sender(b""), limit_bytes=4096, within_s=1)


async def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large() -> None:
    sender = Sender(*[b"x" * 1000] * 50)
    with pytest.raises(Problem, match="body_too_large"):
        await read(scope(), sender, limit_bytes=4096, within_s=1)
    assert sender.asked == 5


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    assert await read(scope(), Sender(b"x" * 4000, b"y" * 96), limit_bytes=4096, within_s=1) == b"x" * 4000 + b"y" * 96


async def test_a_body_that_does_not_come_is_refused_after_its_time() -> None:
    with pytest.raises(Problem, match="slow_body") as caught:
        await read(scope(), Sender(b"{", then="silence"), limit_bytes=4096, within_s=0.02)
    assert (b"connection", b"close") in caught.value.headers, "or the rest of it would be waited for all the same"


async def test_a_client_that_hangs_up_gets_no_answer() -> None:
    with pytest.raises(ClientGoneError):
        await read(scope(), Sender(b"{", then="gone"), limit_bytes=4096, within_s=1)


async def test_a_body_must_say_that_it_is_json() -> None:
    good = b'{"sku":"a","buyer_id":"b"}'
    for kind in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
        assert (await JOIN.read(scope(content_type=kind), Sender(good))).sku == "a"
    for headers in ({}, {"content_type": "text/plain"}, {"content_type": "application/json5"}):
        with pytest.raises(Problem, match="wrong_content_type"):
            await JOIN.read(scope(**headers), Sender(good))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"sku"',
        '{"sku":"a","buyer_id":"b"} x',
        '{"sku":"a","buyer_id":"b","quantity":NaN}',
        '{"sku":"a","buyer_id":"b","quantity":-Infinity}',
        '{"sku":"a","buyer_id":"\\ud800"}',
        b'{"sku":"a","buyer_id":"\xff\xfe"}',
        b"\xef\xbb\xbf{}",
        "[" * 4000,
    ],
)
def test_what_is_no_json_object_is_malformed(text: str | bytes) -> None:
    assert refused(JOIN, text).code == "malformed_body"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"sku":1,"buyer_id":"b"}', "sku"),
        ('{"sku":null,"buyer_id":"b"}', "sku"),
        ('{"sku":"","buyer_id":"b"}', "sku"),
        ('{"sku":"a b","buyer_id":"b"}', "sku"),
        ('{"sku":"a\\n","buyer_id":"b"}', "sku"),
        ('{"sku":"' + "a" * 65 + '","buyer_id":"b"}', "sku"),
        ('{"sku":"a","buyer_id":""}', "buyer_id"),
        ('{"sku":"a","buyer_id":"' + "b" * 129 + '"}', "buyer_id"),
        ('{"sku":"a","buyer_id":["b"]}', "buyer_id"),
        ('{"sku":' + "[" * 2000, "sku"),
        ('{"sku":"a","buyer_id":"b","quantity":0}', "quantity"),
        ('{"sku":"a","buyer_id":"b","quantity":-1}', "quantity"),
        ('{"sku":"a","buyer_id":"b","quantity":1000000000}', "quantity"),
        ('{"sku":"a","buyer_id":"b","quantity":' + "9" * 3000 + "}", "quantity"),
        ('{"sku":"a","buyer_id":"b","quantity":1e400}', "quantity"),
        ('{"sku":"a","buyer_id":"b","quantity":1.5}', "quantity"),
        ('{"sku":"a","buyer_id":"b","quantity":"1"}', "quantity"),
        ('{"sku":"a","buyer_id":"b","quantity":true}', "quantity"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(text: str, field: str) -> None:
    problem = refused(JOIN, text)
    assert (problem.code, problem.more) == ("invalid_field", {"field": field})
    assert len(problem.detail) < 300


def test_the_message_says_what_is_allowed() -> None:
    assert "1 to 64 letters, digits, dots" in refused(JOIN, '{"sku":"ä","buyer_id":"b"}').detail
    assert "1 to 100 units" in refused(JOIN, '{"sku":"a","buyer_id":"b","quantity":0}').detail
    items = {"sale_id": "a", "name": "n", "items": [{"sku": "a", "name": "n", "stock": -1}]}
    assert refused(SALE, json.dumps(items)).more == {"field": "items[0].stock"}


def test_a_missing_and_an_unknown_field_have_codes_of_their_own() -> None:
    missing, unknown = refused(JOIN, '{"sku":"a"}'), refused(JOIN, '{"sku":"a","buyer_id":"b","vip":true}')
    assert (missing.code, missing.more) == ("missing_field", {"field": "buyer_id"})
    assert (unknown.code, unknown.more) == ("unknown_field", {"field": "vip"})
    nested = refused(SALE, '{"sale_id":"a","name":"n","items":[{"sku":"a","name":"n","stock":1,"price":2}]}')
    assert nested.more == {"field": "items[0].price"}


def test_a_long_name_of_a_field_is_not_repeated_in_full() -> None:
    assert len(refused(JOIN, '{"' + "x" * 4000 + '":1}').detail) < 200


def test_of_two_equal_names_the_last_counts() -> None:
    assert JOIN.decode(b'{"sku":"a","sku":"b","buyer_id":"c"}').sku == "b"


def test_an_instant_without_an_offset_is_refused() -> None:
    problem = refused(Body(SalePatch, limit_bytes=1, within_s=1), '{"opens_at":"2026-12-01T10:00:00"}')
    assert (problem.code, problem.more) == ("invalid_field", {"field": "opens_at"})
    assert "RFC 3339" in problem.detail


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("", None),
    ],
)
def test_a_bearer_is_found_whatever_its_case(header: str, found: str | None) -> None:
    assert bearer(scope(authorization=header)) == found


def test_no_authorization_is_no_bearer() -> None:
    assert bearer(scope()) is None
