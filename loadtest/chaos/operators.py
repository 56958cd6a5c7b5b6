"""An operator of the sale, who writes into the history what is asked and answered, and asks again when nothing was."""

import asyncio
import time
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec

from fairline.sale import SaleDefinition
from loadtest.history import Act
from loadtest.recorder import Recorder

ANSWER_WITHIN_S: Final = 6.0
PAUSE_S: Final = 0.3


class NotDoneError(Exception):
    """An act was refused, or there was no answer in time."""


class Operators:
    """Acts on one sale by the gateways at these addresses; use ``async with``."""

    def __init__(self, sale: SaleDefinition, history: Recorder, *, gateways: list[str], key: str) -> None:
        self.sale = sale
        self.versions = dict.fromkeys((item.sku for item in sale.items), 0)
        self.stock = {item.sku: item.stock for item in sale.items}
        self.ended = False
        self._history = history
        self._gateways = gateways
        self._headers = {"Authorization": f"Bearer {key}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S),
            connector=aiohttp.TCPConnector(force_close=True),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def begin(self, *, within_s: float) -> None:
        """Create the sale and open it."""
        await self.act("create", "POST", "", msgspec.to_builtins(self.sale), within_s=within_s)
        await self.act("open", "POST", f"/{self.sale.sale_id}/open", {}, within_s=within_s)

    async def move(self, act: Act, *, within_s: float) -> None:
        """Pause, resume or end."""
        await self.act(act, "POST", f"/{self.sale.sale_id}/{act}", {}, within_s=within_s)
        self.ended |= act == "end"

    async def change(self, *, within_s: float, **values: Any) -> None:
        """Rate, capacity, message."""
        await self.act("change", "PATCH", f"/{self.sale.sale_id}", values, within_s=within_s)

    async def set_stock(self, sku: str, stock: int, *, within_s: float) -> None:
        """The whole number of units; a version is used for one number only."""
        self.versions[sku] += 1
        body = {"stock": stock, "version": self.versions[sku], "reason": "the breaker"}
        await self.act("stock", "PUT", f"/{self.sale.sale_id}/items/{sku}/stock", body, within_s=within_s, sku=sku)
        self.stock[sku] = stock

    async def act(self, what: Act, method: str, path: str, body: Any, *, within_s: float, sku: str = "") -> None:
        """Ask until there is an answer that is not "later"; raises ``NotDoneError`` when it is no, or there is none."""
        deadline = time.monotonic() + within_s
        attempt = 0
        while True:
            status, code = await self._call(what, method, path, body, attempt, sku=sku)
            if 200 <= status < 300:
                return
            late = time.monotonic() + PAUSE_S > deadline
            if late or status not in {0, 425, 429, 502, 503, 504}:
                raise NotDoneError(f"{what}: {status or 'no answer'} {code}")
            await asyncio.sleep(PAUSE_S)
            attempt += 1

    async def _call(self, what: Act, method: str, path: str, body: Any, attempt: int, *, sku: str) -> tuple[int, str]:
        assert self._session is not None  # noqa: S101 - entered
        at = self._gateways[attempt % len(self._gateways)]
        call = self._history.sent(what, sku=sku, body=body, where=at)
        try:
            async with self._session.request(method, f"{at}/admin/sales{path}", json=body) as answer:
                text = await answer.read()
                said = msgspec.json.decode(text) if text else {}
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
            self._history.unknown(call, why=type(error).__name__)
            return 0, type(error).__name__
        code = str(said.get("code", "")) if isinstance(said, dict) else ""
        self._history.answered(call, status=answer.status, code=code, state=str(said.get("state", "")))
        return answer.status, code
