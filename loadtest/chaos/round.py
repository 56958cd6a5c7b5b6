"""One round: a sale is opened, buyers surge, everything breaks, everything heals by itself, and the checker judges.

A round that failed leaves its evidence: ``history.jsonl``, ``finals.json``, ``plan.json``, ``verdict.txt`` and what was
written to each log meanwhile. One that held leaves nothing.
"""

import asyncio
import contextlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
import msgspec

from fairline.runtime.services import cancelled
from fairline.states import State
from loadtest import finals, read_finals
from loadtest.bystander import Bystander
from loadtest.chaos.faults import IN_THE_WAY, Scene, Thrown, throwing
from loadtest.chaos.operators import NotDoneError, Operators
from loadtest.chaos.plan import KINDS, Plan
from loadtest.chaos.surge import Surge
from loadtest.chaos.world import World
from loadtest.checker import check
from loadtest.history import read
from loadtest.recorder import Recorder
from loadtest.report import Finding

LONGEST_S: Final = 60.0  # of a round, healing and reading included
OPENS_WITHIN_S: Final = 12.0
READS_WITHIN_S: Final = 8.0
READS: Final = 3


@dataclass
class Result:
    """How a round ended."""

    plan: Plan
    took_s: float = 0.0
    tickets: int = 0
    confirmed: int = 0
    findings: Sequence[Finding] = ()
    trouble: list[str] = field(default_factory=list)
    thrown: Thrown = field(default_factory=Thrown)

    @property
    def held(self) -> bool:
        """Whether nothing was violated, and the round came to its end."""
        return not self.trouble and not self.violated

    @property
    def violated(self) -> list[Finding]:
        """What the checker says is broken."""
        return [finding for finding in self.findings if finding.verdict == "violated"]

    def faults(self) -> list[str]:
        """What broke it, in a line each."""
        return [*self.trouble, *(f"{finding.name}: {finding.evidence}" for finding in self.violated)]


async def play(world: World, plan: Plan, folder: Path) -> Result:
    """Play a round on a stack that is up; the evidence goes into the folder, which is gone if all held."""
    began = time.monotonic()
    result = Result(plan)
    logs = _sizes(world, folder)
    try:
        with Recorder(folder / "history.jsonl", sale_id=plan.sale.sale_id, seed=plan.seed) as history:
            await _play(world, plan, history, result, deadline=began + LONGEST_S - READS_WITHIN_S)
    except asyncio.CancelledError:  # half a round is evidence of nothing
        shutil.rmtree(folder)
        raise
    try:
        contents = await _contents(world, plan.sale.sale_id)
        finals.save(contents, folder / "finals.json")
        result.findings = check(read([folder / "history.jsonl"]), contents)
    except (finals.FinalsError, TimeoutError) as error:
        result.trouble.append(f"the end cannot be read: {error!r}")
    result.took_s = time.monotonic() - began
    await _close(world, plan)
    if result.held:
        shutil.rmtree(folder)
    else:
        _keep(result, folder, logs)
    return result


async def _play(world: World, plan: Plan, history: Recorder, result: Result, *, deadline: float) -> None:
    sale_id = plan.sale.sale_id
    gateways = [world.url("gateway"), world.url("gateway-2")]
    surge = Surge(
        sale_id,
        list(plan.buyers),
        history,
        gateways=gateways,
        notifiers=[world.url("notifier"), world.url("notifier-2")],
    )
    operators = Operators(plan.sale, history, gateways=gateways, key=world.operator_key)
    around = {"redis_url": world.around("redis"), "postgres_dsn": world.around("postgres")}
    async with surge, operators, Bystander(sale_id, history, **around) as bystander:
        try:
            await bystander.listening(within_s=OPENS_WITHIN_S)
            await operators.begin(within_s=OPENS_WITHIN_S)
        except (NotDoneError, TimeoutError) as error:
            result.trouble.append(f"the sale could not be opened: {error!r}")
            return
        scene = Scene(
            world=world,
            sale=plan.sale,
            operators=operators,
            buyers=tuple(sorted({buyer.buyer_id for buyer in plan.buyers})),
        )
        began = time.monotonic()
        playing = asyncio.create_task(surge.play(within_s=deadline - began), name="surge")
        try:
            result.trouble += await _thrown(plan, scene, history, result.thrown, began_s=began)
            if not result.trouble:
                await playing
        finally:
            await cancelled(playing)
        lacking = await world.until_whole(within_s=max(1.0, deadline - time.monotonic()))
        result.trouble += [f"not healed: {', '.join(lacking)}"] if lacking else []
        left = await bystander.at_rest(within_s=max(1.0, deadline - time.monotonic()))
        if any(KINDS[fault.kind].lost(fault) != "none" for fault in plan.faults):
            # D5: who comes back with an outcome that Redis has forgotten stands in line once more.
            await surge.ask_all(within_s=max(1.0, deadline - time.monotonic()))
            left = await bystander.at_rest(within_s=max(1.0, deadline - time.monotonic()))
        history.rest(rested=not left)
        result.trouble += [f"not at rest: {left}"] if left else []
        result.trouble += [f"{surge.waiting} buyers were not told an outcome"] if surge.waiting else []
        await surge.ask_all(within_s=max(1.0, deadline - time.monotonic()))
        result.tickets, result.confirmed = len(surge.held), surge.told(State.CONFIRMED)


async def _contents(world: World, sale_id: str) -> finals.Finals:
    """What the servers hold. Admission counts a sale from time to time; such a fact may just be on its way."""
    async with asyncio.timeout(READS_WITHIN_S):
        for _ in range(READS):
            contents = await read_finals.read(
                sale_id,
                redis_url=world.around("redis"),
                kafka=world.around("kafka"),
                postgres_dsn=world.around("postgres"),
            )
            if not contents.redis.outbox:
                break
    return contents


async def _close(world: World, plan: Plan) -> None:
    """End the sale, which was judged, so that the rounds to come do not serve it too."""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=READS_WITHIN_S)) as session:
            url = f"{world.around('gateway')}/admin/sales/{plan.sale.sale_id}/end"
            headers = {"Authorization": f"Bearer {world.operator_key}"}
            async with session.post(url, json={}, headers=headers):
                pass


async def _thrown(plan: Plan, scene: Scene, history: Recorder, thrown: Thrown, *, began_s: float) -> list[str]:
    """Throw and end every fault; those that could not be ended."""
    stuck: list[str] = []
    try:
        async with asyncio.TaskGroup() as group:
            for fault in plan.faults:
                group.create_task(throwing(fault, KINDS, scene, history, thrown, began_s=began_s))
    except* IN_THE_WAY as errors:
        stuck += [f"could not be mended: {error!r}" for error in errors.exceptions]
    return stuck


def _sizes(world: World, folder: Path) -> dict[Path, int]:
    """Where each log stands now; makes the folder."""
    folder.mkdir(parents=True)
    return {path: path.stat().st_size for path in world.folder.logs.glob("*.log")}


def _keep(result: Result, folder: Path, logs: dict[Path, int]) -> None:
    (folder / "plan.json").write_bytes(msgspec.json.format(msgspec.json.encode(result.plan)) + b"\n")
    lines = [str(finding) for finding in result.findings]
    (folder / "verdict.txt").write_text("\n".join([*result.faults(), *result.thrown.missed, *lines]) + "\n")
    for path, size in logs.items():
        with path.open("rb") as log:
            log.seek(min(size, path.stat().st_size))  # a long one is put aside and begun anew
            (folder / path.name).write_bytes(log.read())
