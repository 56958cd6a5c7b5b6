"""The complete protocol holds in every scenario; without any one of its rules the model finds what breaks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model import pace
from tests.model.explore import explore
from tests.model.replay import ELSEWHERE, REPLAYED
from tests.model.scenarios import SCENARIOS
from tests.model.variants import VARIANTS

MOST_STATES = 30_000  # of a variant's scenario with the rule, to keep a run short; larger ones are among the deep


@pytest.mark.parametrize("name", SCENARIOS)
def test_with_all_rules_nothing_breaks(name: str) -> None:
    found = explore(SCENARIOS[name])
    assert found.fault == ""
    assert found.states > 30, "the scenario is hardly explored at all"
    assert found.kinds <= REPLAYED | ELSEWHERE.keys(), "test_replay does not know what these steps are in reality"


@pytest.mark.parametrize("recoveries", [False, True])
def test_p1_p2_p3_no_window_has_more_than_told_whatever_the_clock_does(recoveries: bool) -> None:  # noqa: FBT001
    assert pace.explore(recoveries=recoveries).fault == ""


@pytest.mark.parametrize("name", VARIANTS)
def test_without_the_rule_the_model_finds_what_breaks(name: str) -> None:
    variant = VARIANTS[name]
    found = explore(variant.scenario, variant.without)
    assert found.fault.startswith(f"{variant.breaks} ")


@pytest.mark.parametrize("name", VARIANTS)
def test_it_is_that_rule_and_no_other_that_was_missing(name: str) -> None:
    variant = VARIANTS[name]
    found = explore(variant.scenario, variant.without - {name}, most=MOST_STATES)
    assert found.fault == ""


@pytest.mark.parametrize("name", pace.VARIANTS)
def test_without_the_rule_of_the_pace_the_model_finds_what_breaks(name: str) -> None:
    _, without = pace.VARIANTS[name]
    assert pace.explore(without, recoveries=name == "P3-recover").fault


def test_every_rule_that_is_modelled_has_a_variant() -> None:
    rules = {re.match(r"[A-Z]\d", name).group() for name in (*VARIANTS, *pace.VARIANTS)}  # type: ignore[union-attr]
    orders = {f"V{n}" for n in range(1, 9)}
    leases = {"L1", "L2", "L3", "L5", "L6", "L7"}  # L4 is about time, and L2 guards against what it forbids
    units = {f"U{n}" for n in range(1, 5)} | {f"O{n}" for n in range(1, 5)}
    ends = {"S1", "S2", "E1", "E3", "E4", "R1", "R2"}  # E2 is E1 for who joins
    assert rules == orders | leases | units | ends | {"D1", "D2", "D3", "D4", "P1", "P2", "P3", "Q1", "C2"}


def test_the_table_of_the_docs_is_that_of_the_variants() -> None:
    text = (Path(__file__).parents[2] / "docs" / "guarantees.md").read_text()
    rows = re.findall(r"^\| ([A-Z]\d[\w-]*) \| (.*?)(?: \(and without (.*?)\))? \| (\d) \|$", text, re.MULTILINE)
    listed = {name: (does, set(also.split(", ")) - {""}, int(breaks)) for name, does, also, breaks in rows}
    expected = {name: (each.does, set(each.without - {name}), each.breaks) for name, each in VARIANTS.items()}
    assert {name: row for name, row in listed.items() if name not in pace.VARIANTS} == expected
    assert {name: does for name, (does, *_) in listed.items() if name in pace.VARIANTS} == {
        name: does for name, (does, _) in pace.VARIANTS.items()
    }


def test_a_variant_prints_its_shortest_counterexample() -> None:
    command = [sys.executable, "-m", "tests.model", "--variant", "V1"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = ran.stdout.splitlines()
    assert "a failed order leaves no row" in ran.stdout
    assert lines[3].strip() == "1. join: 0  ->  t0 WAITING"
    assert lines[-1].strip() == "then 3 one outcome: Postgres confirms t0, whose buyer was told RELEASED"
