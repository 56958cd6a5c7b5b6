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
MAX_ANSWER_BYTES: Final = 4096
_REASON = re.compile(r"[a-z0-9_]{1,64}")


class NoAnswerError(FairlineError):
    """The shop gave no answer that can be used."""

    code = "no_answer"


class BreakerOpenError(FairlineError):
    """The shop is left alone for a while after failures in a row."""

    code = "breaker_open"


class Check(Protocol):
    """Says yes or no to one ticket."""

    async def __call__(self, ticket: Admitted) -> str:
        """``YES``, or the reason for a no; raises ``NoAnswerError`` or ``BreakerOpenError``."""

    @property
    def resting(self) -> bool:
        """Whether asking is pointless now: admission stops meanwhile (L5)."""


class Accept:
    """Everybody may buy."""

    resting = False

    async def __call__(self, ticket: Admitted) -> str:  # noqa: ARG002 - the port's signature
        """Yes."""
        return YES


class Simulated:
    """Declines a share of the buyers, the same ones for the same seed."""

    resting = False

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
    def open(self) -> bool:
        """Whether no call may go out now."""
        return self._in_a_row >= self._limit and (self._trying or time.monotonic() < self._until)

    def try_once(self) -> None:
        """Note that a call goes out; after a rest, only this one may."""
        self._trying = self._in_a_row >= self._limit

    def record(self, *, ok: bool) -> None:
        """Note how a call ended."""
        self._trying = False
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
        self, session: aiohttp.ClientSession, sale_id: str, *, url: str, timeout_s: float, tries: int, breaker: Breaker
    ) -> None:
        self._session = session
        self._sale_id = sale_id
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._tries = tries
        self._breaker = breaker

    @property
    def resting(self) -> bool:
        """Whether the breaker is open."""
        return self._breaker.open

    async def __call__(self, ticket: Admitted) -> str:
        """Ask, at most ``tries`` times."""
        return await retry(lambda: self._ask(ticket), on=NoAnswerError, attempts=self._tries, longest_s=0.2)

    async def _ask(self, ticket: Admitted) -> str:
        if self._breaker.open:
            raise BreakerOpenError
        self._breaker.try_once()
        body = {
            "sale_id": self._sale_id,
            "ticket_id": ticket.ticket_id,
            "sku": ticket.sku,
            "buyer_id": ticket.buyer_id,
            "quantity": ticket.quantity,
        }
        ok = False
        try:
            async with self._session.post(
                self._url,
                data=msgspec.json.encode(body),
                headers={"Content-Type": "application/json", "Idempotency-Key": ticket.ticket_id},
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                text = await response.content.read(MAX_ANSWER_BYTES + 1)
            if response.status != 200 or len(text) > MAX_ANSWER_BYTES:  # noqa: PLR2004 - "OK" needs no name
                raise NoAnswerError(f"the shop answered with status {response.status}")
            answer = msgspec.json.decode(text, type=_Answer)
            ok = True
        except (aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError) as error:
            raise NoAnswerError(f"the shop gave no answer: {error!r}") from error
        except asyncio.CancelledError:
            raise
        finally:
            self._breaker.record(ok=ok)
        if answer.accept:
            return YES
        return answer.reason if _REASON.fullmatch(answer.reason) else "declined"


def lease_ms_for(validator: Validator, *, lease_ms: int, margin_ms: int, tries: int) -> int:
    """A lease long enough for the validator's time limit x tries and a margin (L4); never shorter than asked for."""
    if validator.kind != "http":
        return lease_ms
    return max(lease_ms, validator.timeout_ms * tries + 2 * margin_ms + 1000)
