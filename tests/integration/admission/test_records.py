"""Admission's client of the order service: pages are followed to their end, and nonsense is an outage."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from admission import records
from admission.records import Records
from fairline.errors import UnavailableError

Answer = Callable[[web.Request], Awaitable[web.Response]]
Serve = Callable[[Answer], Awaitable[Records]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A client of a server that answers like this."""
    servers: list[TestServer] = []
    async with aiohttp.ClientSession() as session:

        async def serve(answer: Answer) -> Records:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", answer)
            server = TestServer(app)
            await server.start_server()
            servers.append(server)
            return Records(session, str(server.make_url("")))

        yield serve
        for server in servers:
            await server.close()


async def test_pages_are_followed_to_the_last_one(serve: Serve) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.query.get("cursor", ""))
        at = len(asked)
        ended = {
            "ticket_id": f"t{at}",
            "outcome": "CONFIRMED",
            "sku": "seat",
            "buyer_id": "ada",
            "quantity": 1,
            "arrival": at,
            "reason": "",
            "at_ms": 5,
            "order": {"verdict": "confirmed", "units": [at], "slots": [1], "epoch": 0, "number": at},
        }
        return web.json_response({"tickets": [ended], "next": f"t{at}" if at < 3 else None})

    client = await serve(answer)
    found = [each async for each in client.ended("spring")]
    assert [each.ticket_id for each in found] == ["t1", "t2", "t3"]
    assert [each.sold.units for each in found if each.sold] == [(1,), (2,), (3,)]
    assert asked == ["", "t1", "t2"]


async def test_an_unknown_sale_and_an_epoch_that_moved_are_answers(serve: Serve) -> None:
    async def answer(request: web.Request) -> web.Response:
        status, code = (409, "epoch_moved") if request.method == "POST" else (404, "unknown_sale")
        return web.json_response({"code": code}, status=status, content_type="application/problem+json")

    client = await serve(answer)
    assert await client.known("spring") is None
    assert await client.raise_epoch("spring", 3) is None


@pytest.mark.parametrize(
    ("status", "body", "content_type"),
    [
        (503, b"{}", "application/problem+json"),
        (404, b"<h1>no such proxy</h1>", "text/html"),
        (404, b'{"code": "not_found"}', "application/problem+json"),  # a gateway, or an order service without this list
        (200, b"{", "application/json"),
        (200, b'{"tickets": [{}], "next": null}', "application/json"),
        (200, b" " * 200, "application/json"),
        (200, b'{"tickets": [], "next": "\xff"}', "application/json"),
    ],
)
async def test_nonsense_is_an_outage(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, content_type: str
) -> None:
    monkeypatch.setattr(records, "MOST_BYTES", 100)

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body, content_type=content_type)

    client = await serve(answer)
    with pytest.raises(UnavailableError, match="order service"):
        _ = [each async for each in client.ended("spring")]


async def test_nobody_there_is_an_outage() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(UnavailableError, match="cannot be asked"):
            await Records(session, "http://127.0.0.1:9").known("spring")
