"""Postgres goes away under a running sale: admission slows, says why everywhere, and is fast again afterwards."""

import re
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp
import pytest

from fairline.demo.scenario import Scenario
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import QUICK, Scene, all_ready, hold, kill, release

RATE: Final = 20.0  # the line stands for a quarter of a minute
BEHIND_MS: Final = 500  # slowest at five times it
REDRIVE_MS: Final = 10 * BEHIND_MS  # in the proportion of the defaults, or nearly
SLOW: Final = 0.1  # the slowest is half of it
MORE: Final = 5


@pytest.fixture
async def stack() -> AsyncIterator[FullStack]:
    ages = {
        "FAIRLINE_ADMISSION_BEHIND_MS": str(BEHIND_MS),
        "FAIRLINE_ADMISSION_REDRIVE_AFTER_MS": str(REDRIVE_MS),
    }
    async with FullStack(environ=QUICK | ages) as stack:
        yield stack


async def test_admission_slows_while_postgres_is_away_says_why_and_is_fast_again(stack: FullStack) -> None:
    sale = Scenario(
        sale_id=a_name(of="slowed"),
        seed=7,
        buyers=500,
        requests=1000,
        items=2,
        stock=150,
        rate_per_s=RATE,
        name="A sale whose Postgres goes away",
    )
    async with Scene(stack, sale, over_s=2) as scene:

        async def slow() -> dict[str, Any]:
            said: dict[str, Any] = (await scene.ask("GET", "/stats")).body
            return said if said["admission_share"] <= SLOW else {}

        async def fast() -> bool:
            said: dict[str, Any] = (await scene.ask("GET", "/stats")).body
            return (said["admission_share"], said["slow_because"]) == (1, None)

        async def more_than(before: float) -> float:
            now = await metric(stack, "admission", "fairline_admitted_total", sale.sale_id)
            return now if now >= before + MORE else 0.0

        await scene.confirmed(10)
        kill(stack, "postgres")
        await hold(stack, "postgres")
        said = await eventually(slow)
        assert said["slow_because"] == "old_orders"
        assert said["waiting"] > 0

        async def measured_slow() -> bool:
            return await metric(stack, "admission", "fairline_admission_share", sale.sale_id) <= SLOW

        await eventually(measured_slow)
        assert await metric(stack, "admission", "fairline_orders_unsettled", sale.sale_id) > 0
        assert await metric(stack, "admission", "fairline_orders_unsettled_seconds", sale.sale_id) > BEHIND_MS / 1000
        assert await metric(stack, "order_service", "fairline_waiting_for_postgres") == 1
        code, told = await stack.cli("stats", sale.sale_id)
        assert code == 0
        assert re.search(r"^admission_share +0\.\d+$", told, re.MULTILINE), told
        assert re.search(r"^slow_because +old_orders$", told, re.MULTILINE), told
        # Slowed, not stopped; and a noisy machine only makes it slower.
        before, began = await metric(stack, "admission", "fairline_admitted_total", sale.sale_id), time.monotonic()
        now = await eventually(lambda: more_than(before), within_s=60)
        assert now - before < RATE / 2 * (time.monotonic() - began)
        await release(stack, "postgres")
        evidence = await scene.finish()
        await eventually(fast)
        assert await metric(stack, "admission", "fairline_admission_share", sale.sale_id) == 1
        code, told = await stack.cli("stats", sale.sale_id)
        assert code == 0
        assert "slow_because" not in told
    assert len(evidence.rows) == sale.items * sale.stock
    log = (stack.folder / "logs" / "admission.log").read_text()
    assert log.index("admission slows") < log.index("admission is fast again")
    await all_ready(stack)


async def metric(stack: FullStack, process: str, name: str, sale_id: str = "") -> float:
    """One value of a process's ``/metrics``; a ``LookupError`` while there is none."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=8)) as session,
        session.get(f"{stack.info['internal_urls'][process]}/metrics") as answer,
    ):
        labels = f'{{sale="{sale_id}"}}' if sale_id else ""
        for line in (await answer.text()).splitlines():
            if line.startswith(f"{name}{labels} "):
                return float(line.rpartition(" ")[2])
    raise LookupError(f"{process} has no {name}{labels}")
