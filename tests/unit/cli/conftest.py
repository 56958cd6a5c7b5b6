from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tests.support.fake_sale import serving

SALE = {
    "sale_id": "spring",
    "name": "Spring",
    "state": "open",
    "items": [{"sku": "teapot", "name": "Teapot", "stock": 5, "version": 3, "free": 2, "waiting": 7, "new": 1}],
    "per_buyer_limit": 1,
    "rate_per_s": 50.0,
    "capacity": None,
    "opens_at": None,
    "ends_at": None,
    "message": None,
    "when_sold_out": "close_line",
    "validator": {},
    "acknowledged": True,
    "invented_later": "yes",
}


@dataclass
class FakeGateway:
    """Answers every call with what was put into ``answers`` (status, body), else with a sale."""

    url: str = ""
    calls: list[tuple[str, str, str, Any]] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.calls.append((request.method, request.path_qs, request.headers.get("Authorization", ""), body))
        status, said = self.answers.pop(0) if self.answers else (200, SALE)
        return web.Response(status=status) if said is None else web.json_response(said, status=status)

    @property
    def last(self) -> tuple[str, str, Any]:
        method, path, _, body = self.calls[-1]
        return method, path, body


@pytest.fixture
async def gateway(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> AsyncIterator[FakeGateway]:
    fake = FakeGateway()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    monkeypatch.chdir(tmp_path)
    async with serving(app) as url:
        fake.url = url
        monkeypatch.setenv("FAIRLINE_GATEWAY_URL", url)
        monkeypatch.setenv("FAIRLINE_OPERATOR_KEY", "secret")
        yield fake
