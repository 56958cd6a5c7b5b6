"""A round without a fault holds and leaves nothing; one that the checker objects to keeps all its evidence."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as replace_struct

from loadtest import checker, finals
from loadtest.chaos import round as one_round
from loadtest.chaos.plan import Plan, draw
from loadtest.chaos.round import play
from loadtest.chaos.world import World
from loadtest.history import History, read
from loadtest.report import Finding
from tests.integration.chaos.conftest import whole
from tests.support.sale import a_name

BUYERS = 30


def quiet() -> Plan:
    plan = draw(5, ["operator"], sale_id=a_name(of="quiet"))
    return replace(plan, faults=(), buyers=plan.buyers[:BUYERS])


async def test_a_round_without_a_fault_holds_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    await whole(world)
    result = await play(world, quiet(), tmp_path / "round")
    assert result.held, result.faults()
    assert [finding.verdict for finding in result.findings] == ["ok"] * 8
    assert result.tickets > BUYERS / 2
    assert result.confirmed > 0
    assert result.took_s < one_round.LONGEST_S
    assert not (tmp_path / "round").exists()


async def test_a_violation_keeps_the_evidence_and_the_checker_finds_it_there_again(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cheated(history: History, contents: finals.Finals) -> list[Finding]:
        """As if one unit less had been on sale than were sold."""
        stock = dict.fromkeys(contents.postgres.stock, 0)
        postgres = replace_struct(contents.postgres, stock=stock, high=stock)
        return checker.check(history, replace_struct(contents, postgres=postgres))

    await whole(world)
    monkeypatch.setattr(one_round, "check", cheated)
    folder, plan = tmp_path / "round", quiet()
    result = await play(world, plan, folder)
    assert not result.held
    assert any(finding.name == "never oversold" for finding in result.violated)
    assert {"history.jsonl", "finals.json", "plan.json", "verdict.txt", "gateway.log", "admission-2.log"} <= {
        path.name for path in folder.iterdir()
    }
    assert "never oversold" in (folder / "verdict.txt").read_text()
    assert finals.load(folder / "finals.json").sale_id == plan.sale.sale_id
    assert len(read([folder / "history.jsonl"]).calls) >= BUYERS
