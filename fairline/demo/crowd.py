"""The crowd: sends the purchase requests of a scenario and listens until everybody knows how it ended.

A fixed number of connections carries the requests, each one at a time (a closed loop), so nothing grows with the
number of buyers but the log. A request whose answer was lost, or that was told to come back later, is sent again
with the same idempotency key until ``give_up_s``, by the next gateway if there are several.

Every attempt, every socket and every frame is written into a history, which is what the checker goes by.
"""

import asyncio
import random
import resource
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Final
from urllib.parse import urlsplit

import msgspec

from fairline.demo.http import Answer, Connection
from fairline.demo.listener import OK, Ear, status_of
from fairline.demo.log import JOINED, LIVE, Call, Held, Log, PutOff
from fairline.demo.scenario import Scenario
from loadtest.recorder import Recorder

CONNECTIONS: Final = 64
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
STATUS_WITHIN_S: Final = 10.0
_LATER: Final = (425, 429, 502, 503, 504)  # worth another try; 425 lasts for a frame after a sale was opened


class _Joined(msgspec.Struct):
    """What a join answers."""

    ticket_id: str
    arrival: int
    state: str
    token: str | None
    status_url: str
    ws_url: str


class _Problem(msgspec.Struct):
    code: str


_encode: Final = msgspec.json.Encoder().encode
_joined: Final = msgspec.json.Decoder(_Joined).decode
_problem: Final = msgspec.json.Decoder(_Problem).decode


class Crowd:
    """Everybody who comes to one sale. ``play`` once, then ``ask_again``; ``log`` may be looked at in between."""

    def __init__(
        self,
        scenario: Scenario,
        *gateway_urls: str,
        history: Recorder,
        notifier_urls: Sequence[str] = (),
        connections: int = CONNECTIONS,
        over_s: float = 0.0,
        give_up_s: float = 60.0,
    ) -> None:
        """Comes as fast as it is answered, or evenly over ``over_s`` seconds if that is later.

        Where several addresses are given, the crowd is spread over them; without ``notifier_urls`` each buyer listens
        where the gateway says.
        """
        self.log = Log()
        self._history = history
        self._gateway_urls = gateway_urls
        self._notifiers = cycle([urlsplit(url).netloc for url in notifier_urls] or [""])
        self._asked = enumerate(scenario.asked())
        self._every_s = over_s / scenario.requests
        self._path = f"{urlsplit(gateway_urls[0]).path.rstrip('/')}/sales/{scenario.sale_id}/tickets"
        self._connections = connections
        self._give_up_s = give_up_s
        self._ear = Ear(self.log, history, sockets=_sockets_we_may_open(), elsewhere=self._socket)
        self._following: set[asyncio.Task[None]] = set()

    async def play(self) -> None:
        """Send everything, then wait for the last outcome. Gives up after ``give_up_s``; the log shows what lacks."""
        self.log.began_s = time.monotonic()
        deadline = self.log.began_s + self._give_up_s
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._connections):
                    group.create_task(self._send(number, deadline))
            left_s = max(0.1, deadline - time.monotonic())
            if self._following:
                await asyncio.wait(self._following, timeout=left_s)
        finally:
            for task in self._following:
                task.cancel()
            await asyncio.gather(*self._following, return_exceptions=True)

    async def ask_again(self) -> None:
        """Ask the status of every ticket once, so that it can be compared with what was told before."""
        tickets = iter(list(self.log.tickets.values()))
        async with asyncio.TaskGroup() as group:
            for number in range(self._connections):
                group.create_task(self._check(number, tickets))

    async def _send(self, number: int, deadline: float) -> None:
        with self._connection(number) as connection:
            for at, (buyer_id, sku, key) in self._asked:
                await asyncio.sleep(max(0.0, self.log.began_s + at * self._every_s - time.monotonic()))
                call = Call(time.monotonic())
                self.log.calls.append(call)
                body = _encode({"sku": sku, "buyer_id": buyer_id})
                ask = partial(connection.post, self._path, body, idempotency_key=key)
                sending = partial(self._history.sent, "join", buyer_id=buyer_id, sku=sku, key=key)
                answer = await self._until_answered(ask, sending, call, deadline)
                if answer is not None:
                    self._note(sku, call, answer)

    def _note(self, sku: str, call: Call, answer: Answer) -> None:
        if answer.status not in {200, 202}:
            call.word = _code(answer)
            return
        said = _joined(answer.body)
        if said.token is None:
            call.word = LIVE
            return
        call.word = JOINED
        assert call.answered_s is not None  # noqa: S101 - it has just been
        if said.ticket_id in self.log.tickets:
            return  # given to two requests, as the history says too
        held = self.log.tickets[said.ticket_id] = Held(
            ticket_id=said.ticket_id,
            sku=sku,
            arrival=said.arrival,
            token=said.token,
            status_url=said.status_url,
            ws_url=self._socket(said.ws_url),
            sent_s=call.sent_s,
        )
        held.hear(said.state, call.answered_s)
        task = asyncio.create_task(self._ear.follow(held), name=said.ticket_id)
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    def _connection(self, number: int) -> Connection:
        """The crowd's connections begin at one server after the other."""
        first = number % len(self._gateway_urls)
        return Connection(*self._gateway_urls[first:], *self._gateway_urls[:first])

    def _socket(self, url: str) -> str:
        """Where this buyer listens."""
        return urlsplit(url)._replace(netloc=next(self._notifiers) or urlsplit(url).netloc).geturl()

    async def _check(self, number: int, tickets: Iterator[Held]) -> None:
        with self._connection(number) as connection:
            for held in tickets:
                ask = partial(connection.get, urlsplit(held.status_url).path, token=held.token)
                sending = partial(self._history.sent, "status", ticket_id=held.ticket_id)
                now = time.monotonic()
                answer = await self._until_answered(ask, sending, Call(now), now + STATUS_WITHIN_S)
                if answer is not None and answer.status == OK:
                    held.hear(status_of(answer.body).state, time.monotonic())

    async def _until_answered(
        self, ask: Callable[[], Awaitable[Answer]], sending: Callable[[], int], call: Call, deadline: float
    ) -> Answer | None:
        """The first answer that is not "later"; the last of those when the time is over; nothing if there was none."""
        answer: Answer | None = None
        while True:
            call.attempts += 1
            pause_s = random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**call.attempts))  # noqa: S311 - jitter
            asked_s, number = time.monotonic(), sending()
            try:
                answer = await ask()
            except OSError as error:
                self._history.unknown(number, why=type(error).__name__)
                self._put_off(asked_s, 0, type(error).__name__)
            else:
                call.answered_s = time.monotonic()
                self._history.answer(number, answer.status, answer.body, retry_after_s=answer.retry_after_s)
                if answer.status not in _LATER:
                    return answer
                self._put_off(asked_s, answer.status, _code(answer), answer.retry_after_s)
                pause_s += answer.retry_after_s
            if time.monotonic() + pause_s > deadline:
                return answer
            await asyncio.sleep(pause_s)

    def _put_off(self, asked_s: float, status: int, word: str, retry_after_s: float = 0.0) -> None:
        self.log.put_off.append(PutOff(time.monotonic() - asked_s, status, word, retry_after_s))


def _code(answer: Answer) -> str:
    """The stable code of a refusal; its status where the body is no problem document."""
    try:
        return _problem(answer.body).code
    except msgspec.DecodeError:
        return f"http_{answer.status}"


def _sockets_we_may_open() -> int:
    """Raise the limit of open files as far as it goes, and keep some for everything else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(100, min(hard if hard > 0 else 8_000, 20_000) - 500)
