"""The checker against a sale on real servers: all holds, from both sides of the glass."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairline.demo.scenario import Scenario
from loadtest import checker
from loadtest.finals import load, save
from tests.support.sale import a_name
from tests.support.stack import FullStack
from tests.support.trouble import QUICK, Scene


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[FullStack]:
    async with FullStack(environ=QUICK) as stack:
        yield stack


async def test_a_real_sale_holds_all_eight_by_its_buyers_history_and_the_final_contents(
    stack: FullStack, tmp_path: Path
) -> None:
    scenario = Scenario(
        sale_id=a_name(of="verified"),
        seed=4,
        buyers=120,
        requests=600,
        items=2,
        stock=30,
        rate_per_s=200.0,
        capacity=40,
    )
    async with Scene(stack, scenario, over_s=0.5) as scene:
        evidence = await scene.finish()
    finals, found = evidence.finals, evidence.findings()
    save(finals, tmp_path / "finals.json")
    assert load(tmp_path / "finals.json") == finals
    assert [finding.verdict for finding in found] == ["ok"] * 8, "\n".join(map(str, found))
    assert checker.main([str(tmp_path)]) == checker.HOLDS

    code, printed = await stack.cli("verify", scenario.sale_id, "--json", "--keep", str(tmp_path / "again.json"))
    assert code == 0
    verdicts = [finding["verdict"] for finding in json.loads(printed)]
    assert verdicts == ["ok", "cannot tell", "cannot tell", "ok", "cannot tell", "cannot tell", "ok", "ok"]
    again = load(tmp_path / "again.json")
    assert (again.redis.tickets, again.postgres.orders) == (finals.redis.tickets, finals.postgres.orders)


async def test_a_sale_that_is_not_there_cannot_be_judged(stack: FullStack) -> None:
    code, printed = await stack.cli("verify", "never-sold")
    assert code == checker.NOT_READ
    assert "Redis knows no sale 'never-sold'" in printed


async def test_one_row_too_few_is_found(stack: FullStack, tmp_path: Path) -> None:
    """The other way round: what is read from real servers is enough to be caught by."""
    scenario = Scenario(sale_id=a_name(of="doctored"), seed=5, buyers=20, requests=40, items=1, stock=5)
    async with Scene(stack, scenario, over_s=0.5) as scene:
        evidence = await scene.finish()
    lost = evidence.finals.postgres.orders.popitem()[0]
    save(evidence.finals, tmp_path / "finals.json")
    assert checker.main([str(tmp_path)]) == checker.VIOLATED
    verdicts = {finding.number: finding for finding in evidence.findings()}
    assert verdicts[4].verdict == "violated"
    assert lost in verdicts[4].tickets
