"""The http adapter against a real server: what is an answer, what is tried again, when the shop is left alone."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from admission.validators import MAX_ANSWER_BYTES, YES, Breaker, BreakerOpenError, Http, NoAnswerError
from tests.support.admission import NOWHERE, Shop, a_session, a_shop, admitted, until

A_WHILE_S = 20.0


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    async with a_shop() as shop:
        yield shop


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with a_session() as session:
        yield session


def _http(
    session: aiohttp.ClientSession,
    url: str,
    *,
    timeout_s: float = A_WHILE_S,
    tries: int = 1,
    failures: int = 1000,
    rest_s: float = 60.0,
    at_once: int = 100,
) -> Http:
    return Http(
        session,
        "spring",
        url=url,
        timeout_s=timeout_s,
        tries=tries,
        breaker=Breaker(failures=failures, rest_s=rest_s),
        at_once=at_once,
    )


def _says(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status)


async def test_the_shop_is_asked_about_the_ticket_with_its_id_as_idempotency_key(
    shop: Shop, session: aiohttp.ClientSession
) -> None:
    ticket = admitted("ada", quantity=3, sku="table")
    assert await _http(session, shop.url)(ticket) == YES
    assert shop.asked == [
        {"sale_id": "spring", "ticket_id": ticket.ticket_id, "sku": "table", "buyer_id": "ada", "quantity": 3}
    ]
    assert shop.keys == [ticket.ticket_id]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"accept": true}', YES),
        (b'{"accept": true, "reason": "anything", "more": [1]}', YES),
        (b'{"accept": false, "reason": "payment_declined"}', "payment_declined"),
        (b'{"accept": false}', "declined"),
        (b'{"accept": false, "reason": ""}', "declined"),
        (b'{"accept": false, "reason": "Not Today!"}', "declined"),
        (b'{"accept": false, "reason": "' + b"x" * 65 + b'"}', "declined"),
        (b'{"accept": false, "reason": "no\\n"}', "declined"),
    ],
)
async def test_an_answer_is_yes_or_a_reason_that_may_be_told(
    shop: Shop, session: aiohttp.ClientSession, body: bytes, said: str
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return _says(body)

    shop.answer = answer
    assert await _http(session, shop.url)(admitted()) == said


async def test_an_answer_that_comes_in_parts_is_an_answer(shop: Shop, session: aiohttp.ClientSession) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in (b'{"acc', b'ept": fal', b'se, "reason": "no_', b'member"}'):
            await response.write(part)
            await asyncio.sleep(0.02)  # the parts must not arrive as one
        return response

    shop.answer = answer
    assert await _http(session, shop.url)(admitted()) == "no_member"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"yes",
        b'{"accept": 1}',
        b'{"accept": "true"}',
        b'{"reason": "payment_declined"}',
        b'{"accept": true',
        b'{"accept": false, "reason": 7}',
        b"\xff\xfe\x00",
        b'{"accept": true, "reason": "\xff"}',
        b'{"accept": true, "x": ' + b"[" * 4000,
        b'{"accept": true, "reason": "' + b"x" * MAX_ANSWER_BYTES + b'"}',
        b"x" * 1_000_000,
    ],
    ids=lambda body: f"{body[:24]!r} {len(body)}",
)
async def test_garbage_and_too_much_of_anything_are_no_answer(
    shop: Shop, session: aiohttp.ClientSession, body: bytes
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return _says(body)

    shop.answer = answer
    with pytest.raises(NoAnswerError):
        await _http(session, shop.url)(admitted())


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 400, 404, 429, 500, 503])
async def test_only_status_200_is_an_answer_and_no_redirect_is_followed(
    shop: Shop, session: aiohttp.ClientSession, status: int
) -> None:
    async def answer(_: web.Request) -> web.Response:
        headers = {"Location": shop.url} if 300 <= status < 400 else {}
        body = None if status == 204 else b'{"accept": true}'
        return web.Response(status=status, headers=headers, body=body)

    shop.answer = answer
    with pytest.raises(NoAnswerError, match=str(status)):
        await _http(session, shop.url)(admitted())
    assert len(shop.asked) == 1


async def test_a_huge_answer_is_not_read_to_its_end(shop: Shop, session: aiohttp.ClientSession) -> None:
    written = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        while written < 200_000_000:
            await response.write(b"x" * 100_000)
            written += 100_000
        return response

    shop.answer = answer
    with pytest.raises(NoAnswerError, match="longer"):
        await _http(session, shop.url)(admitted())
    assert written < 50_000_000  # what the sockets hold


async def test_a_silent_shop_is_no_answer_after_the_time_limit(shop: Shop, session: aiohttp.ClientSession) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(A_WHILE_S)
        return _says(b'{"accept": true}')

    shop.answer = answer
    with pytest.raises(NoAnswerError, match="Timeout"):
        await _http(session, shop.url, timeout_s=0.1)(admitted())


async def test_a_shop_that_hangs_up_is_no_answer(shop: Shop, session: aiohttp.ClientSession) -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return _says(b'{"accept": true}')

    shop.answer = answer
    with pytest.raises(NoAnswerError):
        await _http(session, shop.url)(admitted())


@pytest.mark.parametrize(
    "url", [f"http://{NOWHERE}/", "", "nonsense", "http://", "http://[::1", "http://127.0.0.1:99999/", "http://a b/"]
)
async def test_nobody_there_or_an_address_that_is_none_is_no_answer(session: aiohttp.ClientSession, url: str) -> None:
    with pytest.raises(NoAnswerError):
        await _http(session, url)(admitted())


async def test_a_failure_is_tried_again_and_a_no_is_not(shop: Shop, session: aiohttp.ClientSession) -> None:
    answers = [_says(b"", status=500), _says(b"{"), _says(b'{"accept": false, "reason": "no_member"}')]

    async def answer(_: web.Request) -> web.Response:
        return answers[len(shop.asked) - 1]

    shop.answer = answer
    ticket = admitted()
    assert await _http(session, shop.url, tries=5)(ticket) == "no_member"
    assert shop.keys == [ticket.ticket_id] * 3


async def test_tries_are_bounded(shop: Shop, session: aiohttp.ClientSession) -> None:
    async def answer(_: web.Request) -> web.Response:
        return _says(b"", status=500)

    shop.answer = answer
    with pytest.raises(NoAnswerError):
        await _http(session, shop.url, tries=3)(admitted())
    assert len(shop.asked) == 3


async def test_the_breaker_opens_after_failures_in_a_row_and_nothing_goes_out_then(
    shop: Shop, session: aiohttp.ClientSession
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return _says(b"", status=503)

    shop.answer = answer
    http = _http(session, shop.url, tries=2, failures=5)
    for _ in range(2):
        with pytest.raises(NoAnswerError):
            await http(admitted())
        assert not http.resting
    with pytest.raises(BreakerOpenError):  # the fifth failure opens it before the second try
        await http(admitted())
    assert http.resting
    with pytest.raises(BreakerOpenError):
        await http(admitted())
    assert len(shop.asked) == 5


async def test_after_a_rest_one_call_goes_through_and_a_yes_closes_the_breaker(
    shop: Shop, session: aiohttp.ClientSession
) -> None:
    gate = asyncio.Event()

    async def fail(_: web.Request) -> web.Response:
        return _says(b"", status=503)

    async def wait(_: web.Request) -> web.Response:
        await gate.wait()
        return _says(b'{"accept": true}')

    shop.answer = fail
    http = _http(session, shop.url, failures=1, rest_s=0.05)
    with pytest.raises(NoAnswerError):
        await http(admitted())
    assert http.at_once == 1

    async def rested() -> bool:
        return not http.resting

    await until(rested)
    shop.answer = wait
    asking = [asyncio.create_task(http(admitted(f"buyer-{number}"))) for number in range(10)]

    async def asked() -> bool:
        return len(shop.asked) == 2

    await until(asked)
    gate.set()
    said = await asyncio.gather(*asking, return_exceptions=True)
    assert said.count(YES) == 1
    assert sum(isinstance(each, BreakerOpenError) for each in said) == 9
    assert not http.resting
    assert http.at_once == 100


async def test_a_try_that_is_cancelled_does_not_wedge_the_breaker(shop: Shop, session: aiohttp.ClientSession) -> None:
    async def fail(_: web.Request) -> web.Response:
        return _says(b"", status=503)

    async def hang(_: web.Request) -> web.Response:
        await asyncio.sleep(A_WHILE_S)
        return _says(b"")

    shop.answer = fail
    http = _http(session, shop.url, failures=1, rest_s=0.05)
    with pytest.raises(NoAnswerError):
        await http(admitted())

    async def rested() -> bool:
        return not http.resting

    await until(rested)
    shop.answer = hang
    trying = asyncio.create_task(http(admitted()))

    async def asked() -> bool:
        return len(shop.asked) == 2

    await until(asked)
    assert not await rested()
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)
    assert await rested()

    async def accept(_: web.Request) -> web.Response:
        return _says(b'{"accept": true}')

    shop.answer = accept
    assert await http(admitted()) == YES
