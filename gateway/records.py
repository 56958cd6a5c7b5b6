"""What Postgres knows and what is done with dead letters, asked of the order service's internal port for operators."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import aiohttp
import msgspec

from gateway.problems import KINDS, Problem

LOOK_S: Final = 12.0  # for what looks at Kafka or sends something there
MOST_BYTES: Final = 16 * 1024 * 1024
_OK: Final = 200
_WRONG: Final = 400  # what is wrong with the query, only the order service can say
_REFUSALS: Final = {400: "invalid_query", 404: "unknown_sale", 429: "unavailable", 503: "unavailable"}

# What an operator can still do about a dead letter that was handled otherwise.
_HANDLED: Final = {
    "replayed": "This dead letter was replayed before; nothing was changed. Where its record was given up again, that "
    "is a dead letter of its own: handle the one that is open.",
    "readmitted": "This dead letter was readmitted before; nothing was changed. Its buyer has the new ticket that the "
    "letter names, so nothing is left to do.",
    "discarded": "This dead letter was discarded before and stays so; nothing was changed. The audit log says by whom "
    "and why; if it was a mistake, take it up with the buyer outside of the sale.",
}

What = Literal["history", "sold", "stats"]


class Records:
    """A client of the order service. Opens its connections with the first question."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, sale_id: str, what: What, query: Mapping[str, str]) -> bytes:
        """JSON; raises ``Problem``: 503 when it is away, 502 when it answers nonsense."""
        return await self._call("GET", f"sales/{sale_id}/{what}", query)

    async def look(self, path: str, query: Mapping[str, str]) -> bytes:
        """The same of dead letters and the audit log; longer, for a look at Kafka is behind it."""
        return await self._call("GET", path, query, within_s=LOOK_S)

    async def act(self, path: str, body: Mapping[str, str]) -> bytes:
        """Have something done; what it is then."""
        return await self._call("POST", path, {}, body=body, within_s=LOOK_S)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Mapping[str, str] | None = None,
        within_s: float | None = None,
    ) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, headers={"accept": "application/json"})
        timeout = self._timeout if within_s is None else aiohttp.ClientTimeout(total=within_s)
        url = f"{self._url}/internal/{path}"
        try:
            async with self._session.request(method, url, params=query, json=body, timeout=timeout) as answer:
                content = await answer.content.read(MOST_BYTES + 1)
                while len(content) <= MOST_BYTES and (more := await answer.content.read(MOST_BYTES)):
                    content += more
                if answer.status != _OK:
                    raise _refusal(answer.status, content)
                if answer.content_type != "application/json":
                    raise Problem("bad_gateway", f"The order service answered with {answer.content_type}.")
                if len(content) > MOST_BYTES:
                    raise Problem("bad_gateway", "The order service's answer is too large; ask for less.")
                return content
        except TimeoutError:
            raise Problem("unavailable", "The order service did not answer in time.") from None
        except aiohttp.ClientError:
            raise Problem("unavailable", "The order service does not answer.") from None

    async def close(self) -> None:
        """Close the connections: only when nobody asks any more. A second call finds nothing."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class _Said(msgspec.Struct):
    code: str = ""
    detail: str | None = None
    state: str | None = None


def _refusal(status: int, body: bytes) -> Problem:
    """Ours of the same code, if there is one; else by the status alone."""
    try:
        said = msgspec.json.decode(body, type=_Said)
    except msgspec.MsgspecError:
        said = _Said()
    kind = KINDS.get(said.code)
    if kind is not None and kind.status == status:
        more: dict[str, Any] = {} if said.state is None else {"state": said.state}
        detail = _HANDLED.get(said.state or "") if said.code == "already_handled" else None
        return Problem(said.code, said.detail if status == _WRONG else detail, **more)
    if status in _REFUSALS:
        return Problem(_REFUSALS[status])
    return Problem("bad_gateway", f"The order service answered {status}.")
