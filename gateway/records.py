"""What Postgres knows of a sale, asked from the order service's internal port and passed on to operators."""

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

import aiohttp

from gateway.problems import Problem

MOST_BYTES: Final = 16 * 1024 * 1024
_OK: Final = 200
_REFUSALS: Final = {400: "invalid_query", 404: "unknown_sale", 429: "unavailable", 503: "unavailable"}

What = Literal["history", "sold", "stats"]


class Records:
    """A client of the order service. Opens its connections with the first question."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, sale_id: str, what: What, query: Mapping[str, str]) -> bytes:
        """JSON; raises ``Problem``: 503 when it is away, 502 when it answers nonsense."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, headers={"accept": "application/json"})
        try:
            async with self._session.get(f"{self._url}/internal/sales/{sale_id}/{what}", params=query) as answer:
                if answer.status in _REFUSALS:
                    raise Problem(_REFUSALS[answer.status])
                if answer.status != _OK or answer.content_type != "application/json":
                    raise Problem("bad_gateway", f"The order service answered {answer.status}.")
                body = await answer.content.read(MOST_BYTES + 1)
                while len(body) <= MOST_BYTES and (more := await answer.content.read(MOST_BYTES)):
                    body += more
                if len(body) > MOST_BYTES:
                    raise Problem("bad_gateway", "The order service's answer is too large; ask for less.")
                return body
        except TimeoutError:
            raise Problem("unavailable", "The order service did not answer in time.") from None
        except aiohttp.ClientError:
            raise Problem("unavailable", "The order service does not answer.") from None

    async def run(self, stopping: asyncio.Event) -> None:
        """Close the connections when the process stops."""
        await stopping.wait()
        if self._session is not None:
            await self._session.close()
