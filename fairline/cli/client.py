"""The operator's side of the HTTP API as a small typed client, and where to find it.

Every refusal becomes a ``CliError`` of one sentence. A reply keeps the bytes it came as, so that ``--json`` shows
members that this version does not know.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Literal, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from fairline.cli import CliError
from fairline.local.folder import DEFAULT
from fairline.sale import SaleDefinition, Validator

ANSWER_WITHIN_S: Final = 20.0  # opening a sale and raising stock wait up to 10 s for Postgres
MAX_ANSWER_BYTES: Final = 5_000_000
UNREADABLE: Final = (msgspec.DecodeError, ValueError, RecursionError)  # what is no JSON, no UTF-8, or endlessly deep

Action = Literal["open", "pause", "resume", "end"]
LetterAct = Literal["replay", "readmit", "discard"]
Role = Literal["viewer", "operator", "admin"]
T = TypeVar("T")


class Item(msgspec.Struct, frozen=True):
    """One thing on sale."""

    sku: str
    name: str
    stock: int
    version: int = 0
    free: int = 0
    waiting: int = 0
    outlook: str = ""


class Sale(msgspec.Struct, frozen=True):
    """A sale as its operator reads it."""

    sale_id: str
    name: str
    state: str
    items: tuple[Item, ...]
    per_buyer_limit: int
    rate_per_s: float | None = None
    capacity: int | None = None
    opens_at: datetime | None = None
    ends_at: datetime | None = None
    message: str | None = None
    when_sold_out: str = "close_line"
    validator: Validator = Validator()
    acknowledged: bool = True


class SaleRow(msgspec.Struct, frozen=True):
    """A sale in a list; no name while it is recovering."""

    sale_id: str
    state: str
    name: str | None = None
    waiting: int | None = None


class SalePage(msgspec.Struct, frozen=True):
    """A page of sales, and where the next one begins."""

    sales: tuple[SaleRow, ...]
    next: str | None = None


class Stock(msgspec.Struct, frozen=True):
    """The stock of one sku after a change."""

    sku: str
    stock: int
    version: int


class Key(msgspec.Struct, frozen=True):
    """An operator key; the key itself only in the answer that made it."""

    name: str
    role: str
    created_at: datetime | None = None
    key: str | None = None


class Keys(msgspec.Struct, frozen=True):
    """All stored operator keys."""

    keys: tuple[Key, ...]


class DeadLetterRow(msgspec.Struct, frozen=True):
    """A record that was given up, and what was done with it."""

    id: str
    state: str
    kind: str = ""
    sale_id: str | None = None
    ticket_id: str | None = None
    verdict: str | None = None
    reason: str = ""
    attempts: int = 0
    given_up_at: datetime | None = None
    readmitted_as: str | None = None


class DeadLetter(DeadLetterRow, frozen=True):
    """The same with the record."""

    topic: str = ""
    key: str | None = None
    value: str = ""
    value_bytes: int | None = None
    headers: tuple[tuple[str, str], ...] = ()


class DeadLetterPage(msgspec.Struct, frozen=True):
    """A page of dead letters, and where the next one begins."""

    dead_letters: tuple[DeadLetterRow, ...]
    next: str | None = None


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    detail: str = ""
    title: str = ""


@dataclass(frozen=True)
class Reply(Generic[T]):
    """What came back, as bytes and as what we know of it."""

    raw: bytes
    value: T


@dataclass(frozen=True)
class Address:
    """Where the gateway is, and the key to it; ``stack`` is the local stack's description if one runs."""

    url: str
    key: str
    stack: Mapping[str, Any] | None = None


def address(
    url: str | None = None, key: str | None = None, *, data: Path = DEFAULT, environ: Mapping[str, str] = os.environ
) -> Address:
    """Flags first, then the environment, then the stack that runs in ``data``.

    The key of a local stack is never sent to another address. Raises ``CliError`` when something is missing.
    """
    stack = running_stack(data)
    url = url or from_environment("FAIRLINE_GATEWAY_URL", environ) or (stack or {}).get("gateway_url")
    if not url:
        raise CliError(
            f"No stack runs in {data} and no gateway is named: start one with fairline up, or give --url "
            "or FAIRLINE_GATEWAY_URL."
        )
    key = key or from_environment("FAIRLINE_OPERATOR_KEY", environ)
    if key is None and stack is not None and stack["gateway_url"].rstrip("/") == url.rstrip("/"):
        key = stack["operator_key"]
    if not key:
        raise CliError(f"There is no key for {url}: give --key, FAIRLINE_OPERATOR_KEY or FAIRLINE_OPERATOR_KEY_FILE.")
    return Address(url.rstrip("/"), key, stack)


def running_stack(data: Path) -> dict[str, Any] | None:
    """``stack.json`` of a data folder; nothing when no stack runs there. What it lacks is a ``CliError``."""
    try:
        return _Stack(msgspec.json.decode((data / "stack.json").read_bytes(), type=dict[str, Any]))
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        raise CliError(f"{data / 'stack.json'} cannot be read: {error}") from None


class _Stack(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        raise CliError(f"stack.json does not say its {name}: is it that of another version? Start the stack anew.")


def from_environment(name: str, environ: Mapping[str, str]) -> str | None:
    """The value of a setting, or of the file that ``NAME_FILE`` names, as services read it; raises ``CliError``."""
    if file := environ.get(f"{name}_FILE"):
        try:
            return Path(file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise CliError(f"{name}_FILE={file} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise CliError(f"{name}_FILE={file} cannot be read: it is not text in UTF-8.") from None
    return environ.get(name)


class Operator:
    """Calls of one operator; use ``async with``. Nothing is retried: each call says what happened."""

    def __init__(self, at: Address) -> None:
        self._at = at
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._at.key}", "User-Agent": "fairline-cli"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def create(self, sale: SaleDefinition) -> Reply[Sale]:
        """Make a sale, in state draft."""
        return await self._call("POST", "/admin/sales", Sale, sale)

    async def sale(self, sale_id: str) -> Reply[Sale]:
        """A sale as it stands."""
        return await self._call("GET", _sale(sale_id), Sale)

    async def sales(self) -> list[SaleRow]:
        """All sales, in the order of their ids."""
        rows: list[SaleRow] = []
        after = ""
        while True:
            page = (await self._call("GET", f"/admin/sales{after}", SalePage)).value
            rows += page.sales
            if page.next is None:
                return rows
            after = f"?after={quote(page.next, safe='')}"

    async def act(self, sale_id: str, action: Action, reason: str = "") -> Reply[Sale]:
        """Open, pause, resume or end; a second call changes nothing."""
        return await self._call("POST", f"{_sale(sale_id)}/{action}", Sale, {"reason": reason})

    async def change(self, sale_id: str, **values: Any) -> Reply[Sale]:
        """Set absolute values; None clears."""
        return await self._call("PATCH", _sale(sale_id), Sale, values)

    async def stock(self, sale_id: str, sku: str, *, stock: int, version: int, reason: str = "") -> Reply[Stock]:
        """Set the stock of a sku absolutely (U3)."""
        body = {"stock": stock, "version": version, "reason": reason}
        return await self._call("PUT", f"{_sale(sale_id)}/items/{_part(sku)}/stock", Stock, body)

    async def stats(self, sale_id: str) -> Reply[dict[str, Any]]:
        """The counts of a sale at one instant."""
        return await self._call("GET", f"{_sale(sale_id)}/stats", dict[str, Any])

    async def dead_letters(self, *, sale_id: str | None, state: str | None) -> list[DeadLetterRow]:
        """All of them, of one sale or in one state where named, in the order in which they became known."""
        rows: list[DeadLetterRow] = []
        query = {name: value for name, value in (("sale_id", sale_id), ("state", state)) if value is not None}
        while True:
            page = (await self._call("GET", f"/admin/dead-letters?{urlencode(query)}", DeadLetterPage)).value
            rows += page.dead_letters
            if page.next is None:
                return rows
            query["cursor"] = page.next

    async def dead_letter(self, letter_id: str) -> Reply[DeadLetter]:
        """One of them with its record."""
        return await self._call("GET", _letter(letter_id), DeadLetter)

    async def handle(self, letter_id: str, act: LetterAct, reason: str = "") -> Reply[DeadLetterRow]:
        """Replay, readmit or discard; a second call changes nothing."""
        return await self._call("POST", f"{_letter(letter_id)}/{act}", DeadLetterRow, {"reason": reason})

    async def add_key(self, name: str, role: Role) -> Reply[Key]:
        """Make a key; it is told this once."""
        return await self._call("POST", "/admin/keys", Key, {"name": name, "role": role})

    async def keys(self) -> Reply[Keys]:
        """All stored keys, without the keys."""
        return await self._call("GET", "/admin/keys", Keys)

    async def revoke_key(self, name: str) -> None:
        """End a key; calls with it are refused within a second."""
        await self._call("DELETE", f"/admin/keys/{_part(name)}", Any)

    async def _call(self, method: str, path: str, kind: type[T], body: Any = None) -> Reply[T]:
        assert self._session is not None  # noqa: S101 - entered
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            async with self._session.request(method, self._at.url + path, data=data, headers=headers) as answer:
                raw = await whole(answer)
                status = answer.status
        except TimeoutError:
            raise CliError(f"The gateway at {self._at.url} did not answer within {ANSWER_WITHIN_S:.0f} s.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:  # the last one is of an address or a key
            raise CliError(
                f"The gateway at {self._at.url} cannot be reached ({error}): is it up? fairline check tells more."
            ) from None
        if status >= 400:  # noqa: PLR2004 - where HTTP's refusals begin
            raise CliError(_sentence(status, raw))
        try:
            return Reply(raw, msgspec.json.decode(raw or b"null", type=kind))
        except UNREADABLE as error:
            raise CliError(f"{self._at.url} gave an answer that is none of a Fairline gateway: {error}.") from None


async def whole(answer: aiohttp.ClientResponse) -> bytes:
    """All of its body, however many pieces it comes in; raises ``CliError`` above ``MAX_ANSWER_BYTES``."""
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise CliError(f"{answer.url} gave an answer above {MAX_ANSWER_BYTES:,} bytes, which none should have.")
    return bytes(body)


def _part(text: str) -> str:
    """One part of a path. Nothing and dots would be taken out of it on the way, and the call go somewhere else."""
    if not text:
        raise CliError("'' is no name: is a shell variable not set?")
    if set(text) == {"."}:
        raise CliError(f"{text!r} is no name.")
    return quote(text, safe="")


def _sale(sale_id: str) -> str:
    return f"/admin/sales/{_part(sale_id)}"


def _letter(letter_id: str) -> str:
    return f"/admin/dead-letters/{_part(letter_id)}"


def _sentence(status: int, raw: bytes) -> str:
    """One sentence out of a problem document."""
    try:
        problem = msgspec.json.decode(raw, type=_Problem)
    except UNREADABLE:
        return f"The gateway answered {status} without saying why."
    said = problem.detail or problem.title or f"The gateway answered {status}."
    more = ": fairline check says which server is away." if problem.code == "unavailable" else ""
    return f"{said} ({problem.code}){more}" if problem.code else said


_REFUSED: Final = 2  # the exit code of a part of admission that says why
_ADMISSION_NEEDS: Final = ("FAIRLINE_REDIS_URL", "FAIRLINE_KAFKA", "FAIRLINE_ORDER_SERVICE_URL")


def _addresses_of_admission(data: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The addresses of the stack that runs in the data folder; else those of the environment, which must be there."""
    stack = running_stack(data)
    if stack is not None:
        values = (stack["redis_url"], stack["kafka"], stack["internal_urls"]["order_service"])
        return dict(zip(_ADMISSION_NEEDS, values, strict=True))
    missing = [name for name in _ADMISSION_NEEDS if name not in environ and f"{name}_FILE" not in environ]
    if missing:
        raise CliError(
            f"No stack runs in {data}, and the environment lacks {', '.join(missing)}: start one with fairline up, "
            "name its folder with --data, or set them."
        )
    return {}


def said_by_admission(data: Path, module: str, *arguments: str, otherwise: str) -> bytes:
    """What a part of admission prints, run once as a process of its own; raises ``CliError`` with its last words."""
    environ = {**os.environ, **_addresses_of_admission(data, os.environ)}
    done = subprocess.run([sys.executable, "-m", module, *arguments], env=environ, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode != _REFUSED:  # it failed in a way that it has no words for
            said = said.rpartition("\n")[2]
        raise CliError(said or otherwise)
    return done.stdout
