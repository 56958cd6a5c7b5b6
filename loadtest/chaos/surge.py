"""Buyers who come all at once, and do what buyers do when no answer comes: ask again, reconnect, look at the status.

Everything they send and hear is written into a history before it is believed. A repeat of a join carries its
Idempotency-Key, and tries another gateway. Each buyer is a few requests and one socket at a time; how many buyers
there are is the plan's, and when they give up is told to them, so a surge is bounded and ends.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

from fairline.frames import SUBPROTOCOL, ByeFrame, CloseCode, TicketFrame
from fairline.runtime.services import cancelled
from fairline.states import TERMINAL, SaleState, State
from loadtest.recorder import Recorder

ANSWER_WITHIN_S: Final = 5.0
LONGEST_PAUSE_S: Final = 2.0
SHOWS_UP_WITHIN_S: Final = 2.0
LOST: Final = 1006
_LATER: Final = frozenset({0, 425, 429, 502, 503, 504})
NO_TICKET: Final = 404
_NEVER_AGAIN: Final = (CloseCode.BAD_TOKEN, CloseCode.GARBAGE)


@dataclass(frozen=True, kw_only=True)
class Buyer:
    """What one comes for. ``leaves_after_s``: leaves the line then; ``asks_every_s``: looks at the status as well."""

    at_s: float
    buyer_id: str
    sku: str
    key: str
    quantity: int = 1
    leaves_after_s: float | None = None
    asks_every_s: float | None = None


@dataclass
class Held:
    """A ticket as its buyer knows it. ``epoch`` is the latest in which its buyer has shown up."""

    ticket_id: str
    token: str
    state: str
    epoch: int
    refused: str = ""  # why it will never hear more

    @property
    def over(self) -> bool:
        """Whether there is nothing more to hear."""
        return self.state in TERMINAL or bool(self.refused)


class Surge:
    """All buyers of one sale; use ``async with``. ``play`` once, then ``ask_all``."""

    def __init__(
        self, sale_id: str, buyers: list[Buyer], history: Recorder, *, gateways: list[str], notifiers: list[str]
    ) -> None:
        self.held: dict[str, Held] = {}
        self.gave_up = 0
        self.answers = 0
        self._sale_id = sale_id
        self._buyers = buyers
        self._history = history
        self._gateways = gateways
        self._notifiers = notifiers
        self._session: aiohttp.ClientSession | None = None
        self._until_s = 0.0
        self._showing_up: set[asyncio.Task[int]] = set()

    async def __aenter__(self) -> Self:
        # A connection a request: buyers are many, and a lost connection must lose one request.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_WITHIN_S),
            connector=aiohttp.TCPConnector(limit=200, force_close=True),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def waiting(self) -> int:
        """Tickets whose buyers have not heard the end."""
        return sum(not held.over for held in self.held.values())

    def told(self, state: State) -> int:
        """Buyers whose last word is this."""
        return sum(held.state == state for held in self.held.values())

    async def play(self, *, within_s: float) -> None:
        """Everybody comes, and stays until the end is told, at most so long."""
        began = time.monotonic()
        self._until_s = began + within_s
        try:
            async with asyncio.TaskGroup() as group:
                for buyer in self._buyers:
                    group.create_task(self._buy(buyer, began + buyer.at_s))
        finally:
            await cancelled(*self._showing_up)

    async def ask_all(self, *, within_s: float) -> None:
        """Everybody asks the status once more, so that it can be compared with what was told before."""
        self._until_s = time.monotonic() + within_s
        async with asyncio.TaskGroup() as group:
            for number, held in enumerate(self.held.values()):
                group.create_task(self._status(held, number, again=True))

    async def _buy(self, buyer: Buyer, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
        held = await self._join(buyer)
        if held is None:
            return
        listening = asyncio.create_task(self._listen(held))
        also = [asyncio.create_task(self._look(held, buyer.asks_every_s))] if buyer.asks_every_s else []
        if buyer.leaves_after_s is not None:
            also.append(asyncio.create_task(self._leave(held, buyer.leaves_after_s)))
        try:
            await asyncio.gather(listening, *also)
        finally:
            for task in (listening, *also):
                task.cancel()

    async def _join(self, buyer: Buyer) -> Held | None:
        """The ticket, if this request got one of its own."""
        body = {"sku": buyer.sku, "buyer_id": buyer.buyer_id, "quantity": buyer.quantity}
        about = {"buyer_id": buyer.buyer_id, "sku": buyer.sku, "quantity": buyer.quantity, "key": buyer.key}
        status, said = await self._until_answered(
            "join", "POST", "/tickets", about, body=body, headers={"Idempotency-Key": buyer.key}
        )
        if status not in {200, 202}:
            self.gave_up += status in _LATER
            return None
        if said.get("token") is None:
            return None  # the buyer's live ticket, which another request holds
        return self.held.setdefault(
            said["ticket_id"], Held(said["ticket_id"], said["token"], said["state"], said["epoch"])
        )

    async def _leave(self, held: Held, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if held.over:
            return
        status, said = await self._until_answered(
            "leave", "DELETE", f"/tickets/{held.ticket_id}", {"ticket_id": held.ticket_id}, headers=_bearer(held)
        )
        if status == 200:
            held.state = said["state"]

    async def _look(self, held: Held, every_s: float) -> None:
        while not held.over and time.monotonic() < self._until_s:
            await asyncio.sleep(random.uniform(0.5, 1.5) * every_s)
            await self._status(held, random.randrange(len(self._gateways)), again=False)

    async def _status(self, held: Held, first: int, *, again: bool) -> int:
        path, about = f"/tickets/{held.ticket_id}", {"ticket_id": held.ticket_id}
        if again:
            status, said = await self._until_answered("status", "GET", path, about, headers=_bearer(held))
        else:
            status, said, _ = await self._call("status", "GET", path, about, first, headers=_bearer(held))
        if status == 200 and held.state not in TERMINAL:
            held.state = said["state"]
        return status

    async def _until_answered(
        self, what: Any, method: str, path: str, about: dict[str, Any], **request: Any
    ) -> tuple[int, dict[str, Any]]:
        """The first answer that is not "later"; the last of those when the time is over."""
        attempt = random.randrange(len(self._gateways))
        pause_s = 0.05
        while True:
            status, said, after_s = await self._call(what, method, path, about, attempt, **request)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
            rest_s = max(after_s, pause_s) * random.uniform(0.5, 1.0) if not after_s else after_s + random.random()
            if status not in _LATER or time.monotonic() + rest_s > self._until_s:
                return status, said
            await asyncio.sleep(rest_s)
            attempt += 1

    async def _call(
        self,
        what: Any,
        method: str,
        path: str,
        about: dict[str, Any],
        attempt: int,
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, Any], float]:
        """One attempt: status (0 for no answer), body, and the seconds of Retry-After."""
        assert self._session is not None  # noqa: S101 - entered
        at = self._gateways[attempt % len(self._gateways)]
        call = self._history.sent(what, where=at, **about)
        try:
            async with self._session.request(
                method, f"{at}/sales/{self._sale_id}{path}", json=body, headers=headers
            ) as answer:
                text = await answer.read()
                said = msgspec.json.decode(text) if text else {}
                after_s = float(answer.headers.get("Retry-After", 0))
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError, ValueError) as error:
            self._history.unknown(call, why=type(error).__name__)
            return 0, {}, 0.0
        self._history.answer(call, answer.status, text, retry_after_s=after_s)
        self.answers += 1
        return answer.status, said, after_s

    async def _listen(self, held: Held) -> None:
        """Open the socket again until the end was told."""
        failures = 0
        while not held.over and time.monotonic() < self._until_s:
            at = random.choice(self._notifiers)
            socket = self._history.opening(held.ticket_id, where=at)
            code, pause_s = LOST, 0.0
            try:
                async with connect(
                    f"{at}/sales/{self._sale_id}/tickets/{held.ticket_id}",
                    subprotocols=[Subprotocol(SUBPROTOCOL), Subprotocol(held.token)],
                    compression=None,
                    proxy=None,
                    open_timeout=ANSWER_WITHIN_S,
                    ping_interval=2,
                    ping_timeout=2,
                    close_timeout=0.2,
                ) as wire:
                    failures = 0
                    pause_s = await self._hear(wire, held, socket)
                    code = wire.close_code or LOST
            except (OSError, TimeoutError, InvalidHandshake, InvalidMessage, EOFError):
                pass  # the history has an opening and nothing heard
            self._history.closed(socket, code=code)
            if code in _NEVER_AGAIN:
                held.refused = f"the socket was closed with {code}"
            elif code == CloseCode.NOT_FOUND:  # its status may bring it back (D4)
                status = await self._status(held, 0, again=True)
                held.refused = "there is no such ticket" if status == NO_TICKET else ""
            failures += 1
            if not held.over:
                await asyncio.sleep(pause_s + random.uniform(0, min(LONGEST_PAUSE_S, 0.05 * 2**failures)))

    async def _hear(self, wire: ClientConnection, held: Held, socket: int) -> float:
        """Take frames until the socket closes, or the time is over; how long the server asks to stay away."""
        pause_s = 0.0
        try:
            while (left_s := self._until_s - time.monotonic()) > 0:
                async with asyncio.timeout(left_s):
                    data = await wire.recv(decode=False)
                self._history.heard(socket, bytes(data))
                frame = _frame(data)
                if isinstance(frame, TicketFrame):
                    held.state = frame.state
                elif isinstance(frame, ByeFrame):
                    pause_s = frame.retry_after_ms / 1000
                elif frame.state != SaleState.RECOVERING and frame.epoch > held.epoch:
                    held.epoch = frame.epoch
                    task = asyncio.create_task(self._show_up(held), name=f"show up {held.ticket_id}")
                    self._showing_up.add(task)
                    task.add_done_callback(self._showing_up.discard)
        except (ConnectionClosed, TimeoutError):
            pass
        return pause_s

    async def _show_up(self, held: Held) -> int:
        """The sale was rebuilt: only whoever asks is taken to be there (D3)."""
        await asyncio.sleep(random.uniform(0, SHOWS_UP_WITHIN_S))
        return await self._status(held, 0, again=True)


class _Progress(msgspec.Struct, tag="progress"):
    """What of it is looked into here; the history keeps it all."""

    state: str
    epoch: int


_frame: Final = msgspec.json.Decoder(TicketFrame | ByeFrame | _Progress).decode


def _bearer(held: Held) -> dict[str, str]:
    return {"Authorization": f"Bearer {held.token}"}
