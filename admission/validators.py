"""The shop's own check of admitted tickets: a port and its three adapters.

A validator answers for one ticket; the controller asks for a whole batch at once and cancels what is not answered when
its lease nears its end (L4). It may ask again about the same ticket, so the shop's endpoint is handed the ticket's id
as its idempotency key and must have no other effect.
"""

import asyncio
import hashlib
import re
import time
from typing import Final, Protocol

import aiohttp
import msgspec

from admission.stock import Admitted
from fairline.errors import FairlineError
from fairline.runtime.retry import retry
from fairline.sale import Validator

YES: Final = ""  # anything else is the reason for a no
NO_LIMIT: Final = 1_000_000
MAX_ANSWER_BYTES: Final = 4096
_REASON = re.compile(r"[a-z0-9_]{1,64}")


class NoAnswerError(FairlineError):
    """The shop gave no answer that can be used."""

    code = "no_answer"


class BreakerOpenError(FairlineError):
    """The shop is left alone for a while after failures in a row."""

    code = "breaker_open"


class ProbeFailedError(FairlineError):
    """The one question that was to find out whether the shop answers again was not answered either."""

    code = "probe_failed"


class Check(Protocol):
    """Says yes or no to one ticket."""

    async def __call__(self, ticket: Admitted) -> str:
        """``YES``, or the reason for a no; raises ``NoAnswerError``, ``BreakerOpenError`` or ``ProbeFailedError``."""

    @property
    def resting(self) -> bool:
        """Whether asking is pointless now: admission stops meanwhile (L5)."""

    @property
    def at_once(self) -> int:
        """About how many tickets it may be asked at a time; more than that are not admitted."""


class Accept:
    """Everybody may buy."""

    resting = False
    at_once = NO_LIMIT

    async def __call__(self, ticket: Admitted) -> str:  # noqa: ARG002 - the port's signature
        """Yes."""
        return YES


class Simulated:
    """Declines a share of the buyers, the same ones for the same seed."""

    resting = False
    at_once = NO_LIMIT

    def __init__(self, share: float, seed: int) -> None:
        self._below = share * 2**32
        self._seed = seed

    async def __call__(self, ticket: Admitted) -> str:
        """``payment_declined`` for the chosen ones."""
        text = f"{self._seed}\n{ticket.sku}\n{ticket.buyer_id}".encode()
        drawn = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")
        return "payment_declined" if drawn < self._below else YES


class Breaker:
    """Leaves a failing endpoint alone: ``failures`` in a row open it for ``rest_s``, then one call tries again."""

    def __init__(self, *, failures: int, rest_s: float) -> None:
        self._limit = failures
        self._rest_s = rest_s
        self._in_a_row = 0
        self._until = 0.0
        self._trying = False

    @property
    def failed(self) -> bool:
        """Whether the last calls failed: none may go out, or only the one that tries again."""
        return self._in_a_row >= self._limit

    @property
    def open(self) -> bool:
        """Whether no call may go out now."""
        return self.failed and (self._trying or time.monotonic() < self._until)

    def begin(self) -> bool:
        """Note that a call goes out; whether it is the one that tries again. Hand that to ``end``, however it ends."""
        trying = self.failed
        self._trying = self._trying or trying
        return trying

    def end(self, *, ok: bool | None, trying: bool) -> None:
        """Note how a call ended; None for one that we gave up ourselves, which says nothing of the endpoint."""
        if trying:
            self._trying = False
        if ok is None:
            return
        self._in_a_row = 0 if ok else self._in_a_row + 1
        if not ok:
            self._until = time.monotonic() + self._rest_s


class _Answer(msgspec.Struct):
    accept: bool
    reason: str = "declined"


class Http:
    """Asks the shop: POST the ticket as JSON, read ``{"accept": true}`` or ``{"accept": false, "reason": "..."}``.

    Anything else than such an answer with status 200 is a failure: tried again, counted by the breaker, and in the end
    the ticket stays undecided.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        sale_id: str,
        *,
        url: str,
        timeout_s: float,
        tries: int,
        breaker: Breaker,
        at_once: int = NO_LIMIT,
    ) -> None:
        self._session = session
        self._sale_id = sale_id
        self._url = url
        # The library would round a limit above its threshold up to a whole second; leases are reckoned without (L4).
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, ceil_threshold=timeout_s + 1)
        self._longest_s = (timeout_s + 1) * tries
        self._tries = tries
        self._breaker = breaker
        self._at_once = at_once

    @property
    def resting(self) -> bool:
        """Whether the breaker is open."""
        return self._breaker.open

    @property
    def at_once(self) -> int:
        """One while the shop is tried again: the others would only be admitted to be given back."""
        return 1 if self._breaker.failed else self._at_once

    async def __call__(self, ticket: Admitted) -> str:
        """Ask, at most ``tries`` times."""
        return await retry(
            lambda: self._ask(ticket),
            on=NoAnswerError,
            attempts=self._tries,
            longest_s=0.2,
            within_s=self._longest_s,
        )

    async def _ask(self, ticket: Admitted) -> str:
        if self._breaker.open:
            raise BreakerOpenError
        trying = self._breaker.begin()
        ok: bool | None = False
        try:
            answer = await self._post(ticket)
            ok = True
        except NoAnswerError as error:
            if trying:
                raise ProbeFailedError from error
            raise
        except asyncio.CancelledError:
            ok = None
            raise
        finally:
            self._breaker.end(ok=ok, trying=trying)
        if answer.accept:
            return YES
        return answer.reason if _REASON.fullmatch(answer.reason) else "declined"

    async def _post(self, ticket: Admitted) -> _Answer:
        body = {
            "sale_id": self._sale_id,
            "ticket_id": ticket.ticket_id,
            "sku": ticket.sku,
            "buyer_id": ticket.buyer_id,
            "quantity": ticket.quantity,
        }
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",  # so that what is read is as long as what was sent
            "Idempotency-Key": ticket.ticket_id,
        }
        try:
            async with self._session.post(
                self._url,
                data=msgspec.json.encode(body),
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                if response.status != 200:  # noqa: PLR2004 - "OK" needs no name
                    raise NoAnswerError(f"the shop answered with status {response.status}")
                return msgspec.json.decode(await _read(response.content), type=_Answer)
        # An answer may be nested too deep, and text that is no UTF-8 is a plain ValueError.
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            raise NoAnswerError(f"the shop gave no answer: {error!r}") from error


async def _read(content: aiohttp.StreamReader) -> bytes:
    """All of a short answer, in however many parts it comes."""
    text = b""
    while part := await content.read(MAX_ANSWER_BYTES):
        text += part
        if len(text) > MAX_ANSWER_BYTES:
            raise NoAnswerError(f"the shop's answer is longer than {MAX_ANSWER_BYTES} bytes")
    return text


def lease_ms_for(validator: Validator, *, lease_ms: int, margin_ms: int, tries: int) -> int:
    """A lease long enough for the validator's time limit x tries and a margin (L4); never shorter than asked for."""
    if validator.kind != "http":
        return lease_ms
    return max(lease_ms, validator.timeout_ms * tries + 2 * margin_ms + 1000)
