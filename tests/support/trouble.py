"""A sale that is played from outside while a test makes trouble, and what a test asks and does meanwhile.

    async with Scene(stack, scenario, over_s=2) as scene:
        await scene.answered(0.3)                   # of the requests
        kill(stack, "admission")
        await scene.finish()                        # judges all eight invariants

The crowd is that of ``fairline demo``; its history is judged by the checker. Nothing here believes what a service says.
"""

import asyncio
import os
import signal
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec
from aiohttp import web

from fairline.cli import CliError
from fairline.cli.client import Address, Operator
from fairline.demo.crowd import Crowd
from fairline.demo.scenario import Scenario
from fairline.local import control
from fairline.sale import Validator
from loadtest import history, read_finals
from loadtest.bystander import IN_HISTORY, Bystander
from loadtest.checker import check
from loadtest.finals import Finals, Unit
from loadtest.history import History
from loadtest.recorder import Recorder
from loadtest.report import Finding
from tests.support.admission import Shop, a_shop
from tests.support.stack import PATIENCE_S, FullStack, eventually

# What a client may be told when it is to come back. ``not_open`` is one frame of the board after the opening.
COME_BACK: Final = {("not_open", 425), ("unavailable", 503), ("overloaded", 503), ("recovering", 503)}
ANSWERED_WITHIN_S: Final = 8.0  # nobody hangs longer, whatever is away; the client itself would wait for 15 s
THINKS_S: Final = 0.15  # long enough to be killed in between
NOTED: Final = 12  # last lines of each log that a failure shows
QUIET_WITHIN_S: Final = 60.0
LISTENING_WITHIN_S: Final = 60.0
CONTROL_WITHIN_S: Final = 60.0

# Short where the defaults are made for a busy day; nothing here changes what must hold.
QUICK: Final = {
    "FAIRLINE_REDIS_TIMEOUT_S": "1",
    "FAIRLINE_KAFKA_SESSION_S": "1.5",
    "FAIRLINE_GATEWAY_ACKNOWLEDGE_S": "3",
    "FAIRLINE_NOTIFIER_DONE_GRACE_S": "0.2",
    "FAIRLINE_NOTIFIER_RECONNECT_SPREAD_S": "0.5",
    "FAIRLINE_ADMISSION_LEASE_MS": "1200",
    "FAIRLINE_ADMISSION_MARGIN_MS": "200",
    "FAIRLINE_ADMISSION_RELAY_TIMEOUT_MS": "2000",
    "FAIRLINE_ADMISSION_REDRIVE_AFTER_MS": "600",
    "FAIRLINE_ADMISSION_MAX_TRIES": "10",
    "FAIRLINE_ADMISSION_VALIDATOR_TRIES": "1",
    "FAIRLINE_ADMISSION_BREAKER_REST_MS": "300",
}


@dataclass(frozen=True)
class Said:
    """An answer: its status, its code where it is a refusal, its body, and how long it took."""

    status: int
    code: str
    retry_after: str | None
    body: Any
    took_s: float

    @property
    def come_back(self) -> bool:
        """Whether it is a refusal that says when to come back."""
        return (self.code, self.status) in COME_BACK and (self.retry_after or "").isdecimal()


async def ask(method: str, url: str, *, key: str | None = None, body: Any = None, **headers: str) -> Said:
    """One request with its own connection; ``key`` is a bearer's. Fails when it hangs."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent["authorization"] = f"Bearer {key}"
    began = time.monotonic()
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWERED_WITHIN_S)) as session,
        session.request(method, url, json=body, headers=sent) as answer,
    ):
        text = await answer.read()
        said = msgspec.json.decode(text) if "json" in answer.content_type and text else None
        code = said.get("code", "") if isinstance(said, dict) else ""
        return Said(answer.status, code, answer.headers.get("retry-after"), said, time.monotonic() - began)


async def missing(stack: FullStack, name: str) -> Collection[str]:
    """What a process says that it lacks, by its ``/readyz``; nothing when it is ready."""
    said = await ask("GET", f"{stack.info['internal_urls'][name]}/readyz")
    assert said.status == (200 if said.body["ready"] else 503)
    return set(said.body["missing"])


async def all_ready(stack: FullStack, *, within_s: float = PATIENCE_S) -> None:
    """Wait until every process of the stack is there and ready."""

    async def ready() -> bool:
        info = stack.info
        running = {process["name"] for process in info["processes"]}
        wanted = {"redis", "kafka", "postgres", *info["internal_urls"]}
        assert running == wanted, f"away: {wanted - running}"
        for name in info["internal_urls"]:
            assert not await missing(stack, name), name
        return True

    await eventually(ready, within_s=within_s)


def kill(stack: FullStack, *names: str, number: signal.Signals = signal.SIGKILL) -> list[int]:
    """Send these a signal, all at once; the processes they were."""
    pids = [stack.pid(name) for name in names]
    for pid in pids:
        os.kill(pid, number)
    return pids


async def hold(stack: FullStack, *names: str) -> None:
    """Hold these down; one that was killed just before is not started again in between."""
    for name in names:
        await asyncio.to_thread(control.ask, stack.folder, {"do": "stop", "name": name}, within_s=CONTROL_WITHIN_S)


async def release(stack: FullStack, *names: str) -> None:
    """Bring these back; a second call is fine."""
    for name in names:
        await asyncio.to_thread(control.ask, stack.folder, {"do": "start", "name": name}, within_s=CONTROL_WITHIN_S)


async def opened(operator: Operator, sale_id: str) -> None:
    """Open a sale; asked again while Postgres has not acknowledged it, as that refusal says."""

    async def open_it() -> bool:
        try:
            await operator.act(sale_id, "open")
        except CliError as error:
            if "(not_acknowledged)" not in str(error):
                raise
            return False
        return True

    await eventually(open_it)


@asynccontextmanager
async def a_slow_shop() -> AsyncIterator[Shop]:
    """Declines a tenth, the same answer for the same ticket, and takes its time."""

    async def slowly(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(THINKS_S)
        accept = zlib.crc32(request.headers["Idempotency-Key"].encode()) % 10 != 0
        return web.json_response({"accept": accept, "reason": "payment_declined"})

    async with a_shop() as shop:
        shop.answer = slowly
        yield shop


@dataclass(frozen=True)
class Evidence:
    """All that is known of a sale: what its buyers and operators did and heard, and what the servers hold."""

    history: History
    finals: Finals

    @property
    def rows(self) -> Sequence[Unit]:
        """The units that Postgres has sold."""
        return self.finals.postgres.units

    def findings(self) -> list[Finding]:
        """The checker's opinion."""
        return check(self.history, self.finals)


class Scene:
    """One sale, open, with a crowd that comes over ``over_s`` seconds. One ``evidence`` or ``finish`` a scene."""

    def __init__(
        self,
        stack: FullStack,
        scenario: Scenario,
        *,
        over_s: float,
        gateways: Sequence[str] = ("gateway",),
        notifiers: Sequence[str] = (),
        shop_url: str | None = None,
        give_up_s: float = 60.0,
    ) -> None:
        """With ``shop_url`` the shop is asked over HTTP instead of simulated; its answers take a while."""
        self.stack = stack
        self.scenario = scenario
        self.definition = scenario.definition()
        if shop_url is not None:
            shop = Validator(kind="http", url=shop_url, timeout_ms=1000)
            self.definition = msgspec.structs.replace(self.definition, validator=shop)
        at = stack.info
        self.gateway_url: str = at["gateway_url"]
        self.key: str = at["operator_key"]
        urls = at["public_urls"]
        self._path = stack.folder / f"{scenario.sale_id}.jsonl"
        self.history = Recorder(self._path, sale_id=scenario.sale_id, seed=scenario.seed)
        self.crowd = Crowd(
            scenario,
            *(urls[name] for name in gateways),
            history=self.history,
            notifier_urls=[urls[name] for name in notifiers],
            over_s=over_s,
            give_up_s=give_up_s,
        )
        self.bystander = Bystander(
            scenario.sale_id, self.history, redis_url=at["redis_url"], postgres_dsn=at["postgres_dsn"]
        )
        self._playing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.bystander.__aenter__()
        await self.bystander.listening(within_s=LISTENING_WITHIN_S)
        async with Operator(Address(self.gateway_url, self.key)) as operator:
            self.history.sent("create", body=msgspec.to_builtins(self.definition))
            await operator.create(self.definition)
            self.history.sent("open")
            await opened(operator, self.scenario.sale_id)
        self._playing = asyncio.create_task(self.crowd.play(), name=self.scenario.sale_id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self._account())
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.gather(self._playing, return_exceptions=True)
        await self.bystander.__aexit__(kind, error, trace)
        self.history.__exit__(kind, error, trace)

    async def answered(self, share: float) -> None:
        """Wait until this share of the requests has an answer."""
        wanted = share * self.scenario.requests
        await eventually(lambda: sum(call.answered_s is not None for call in self.crowd.log.calls) >= wanted)

    async def confirmed(self, number: int, *, within_s: float = PATIENCE_S) -> None:
        """Wait until so many buyers were told that they have it."""
        await eventually(lambda: self.told()["CONFIRMED"] >= number, within_s=within_s)

    def told(self) -> Counter[str]:
        """Tickets by the last state that their buyers were told."""
        return Counter(held.state for held in self.crowd.log.tickets.values())

    async def ask(self, method: str, path: str, *, body: Any = None) -> Said:
        """A call of the operator about this sale."""
        return await ask(
            method, f"{self.gateway_url}/admin/sales/{self.scenario.sale_id}{path}", key=self.key, body=body
        )

    async def played(self) -> None:
        """Wait until the crowd has heard all there is to hear, or has given up."""
        assert self._playing is not None, "the scene has not begun"
        await self._playing

    async def finals(self) -> Finals:
        """What the servers hold now."""
        at = {name: self.stack.info[name] for name in ("redis_url", "kafka", "postgres_dsn")}
        return await read_finals.read(self.scenario.sale_id, **at)

    async def evidence(self, *, quiet_within_s: float = QUIET_WITHIN_S) -> Evidence:
        """Wait until all is over and quiet, but no longer than that; then everybody asks once more."""
        await self.played()
        left = await self.bystander.at_rest(within_s=quiet_within_s)
        self.history.rest(rested=not left)
        await self.crowd.ask_again()
        finals = await self.finals()
        return Evidence(history.read([self._path]), finals)

    async def finish(self, *, lost: bool = False, besides: Mapping[str, str] | None = None) -> Evidence:
        """Wait until all is quiet, then judge; also that each outcome is a row of history in Postgres.

        ``lost``: connections to the gateway may have been cut. ``besides``: outcomes in the history that are of no
        ticket of the crowd; of those the checker may complain.
        """
        others = dict(besides or {})
        evidence = await self.evidence()
        for finding in evidence.findings():
            ours = set(finding.tickets) - others.keys() or not finding.tickets
            assert finding.verdict == "ok" or not ours, str(finding)
        assert evidence.history.rests[0].rested, f"not quiet within {QUIET_WITHIN_S:.0f} s"
        assert evidence.history.samples
        assert self.faults_of_put_off(lost=lost) == []
        ends = {held.ticket_id: held.state for held in self.crowd.log.tickets.values() if held.state in IN_HISTORY}
        assert evidence.finals.postgres.history == ends | others
        return evidence

    def _account(self) -> str:
        """How far it came, for whoever has to find out why it failed."""
        log = self.crowd.log
        put_off = Counter((each.status, each.word) for each in log.put_off)
        lines = [
            f"answers {log.answers()}, put off {dict(put_off)}, told {dict(self.told())}",
            f"counted last {self.bystander.counts}",
            *(f"stack: {line}" for line in self.stack.said().splitlines()[-NOTED:]),
        ]
        for path in sorted((self.stack.folder / "logs").glob("*.log")):
            lines += [f"{path.stem}: {line}" for line in path.read_text(errors="replace").splitlines()[-NOTED:]]
        return "\n".join(lines)

    def faults_of_put_off(self, *, lost: bool = False) -> list[str]:
        """What a client was told besides "come back then", and what hung."""
        put_off = self.crowd.log.put_off
        faults = [
            f"{each.status} {each.word} (Retry-After {each.retry_after_s:g})"
            for each in put_off
            if each.status and ((each.word, each.status) not in COME_BACK or each.retry_after_s < 1)
        ]
        faults += [f"no answer after {each.took_s:.1f} s: {each.word}" for each in put_off if not (each.status or lost)]
        faults += [f"{each.word} only after {each.took_s:.1f} s" for each in put_off if each.took_s > ANSWERED_WITHIN_S]
        return faults
