"""What a run of the breaker says: a line a round, the last lines, and which names of faults it takes."""

import pytest

from loadtest.chaos.main import Tally, kinds_of, line, verdict
from loadtest.chaos.plan import KINDS, draw
from loadtest.chaos.round import Result
from loadtest.report import Finding


def finding(decided: str) -> Finding:
    return Finding(number=1, name="never oversold", verdict=decided, evidence="2 rows for 1 unit")  # type: ignore[arg-type]


def result(seed: int = 7, *verdicts: str, trouble: str = "") -> Result:
    plan = draw(seed, ["kill"], sale_id="spring")
    played = Result(plan, took_s=12.3, tickets=90, confirmed=40, findings=[finding(each) for each in verdicts])
    for fault in plan.faults:
        played.thrown.note(fault)
    played.trouble += [trouble] if trouble else []
    return played


def test_a_round_is_one_line_with_its_seed_faults_counts_and_verdict() -> None:
    said = line(3, result(7, "ok"))
    assert said.startswith("round   3 seed 7: ")
    assert said.count("kill ") == 3
    assert said.endswith("90 tickets, 40 confirmed, 12 s: ok")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("played", "end"),
    [
        (result(7, "ok", "cannot tell"), "ok, 1 cannot tell"),
        (result(7, "ok", "violated"), "VIOLATED"),
        (result(7, "ok", trouble="not at rest"), "NOT HEALED"),
    ],
    ids=["unsure", "violated", "not healed"],
)
def test_the_line_says_what_was_found(played: Result, end: str) -> None:
    assert line(1, played).endswith(f": {end}")
    assert played.held == end.startswith("ok")


def test_the_last_line_is_the_verdict_and_the_ones_before_say_what_was_thrown() -> None:
    tally = Tally()
    for seed in range(7, 18):
        tally.add(result(seed, "ok"))
    killed, thrown, last = verdict(tally, 7).splitlines()
    assert "admission-2 3" in killed
    assert "redis 3" in killed
    assert thrown.startswith("thrown: kill 33, term 0")
    assert last == "11 rounds from seed 7, 990 tickets, 440 confirmed: 0 violations"


def test_a_violation_is_in_the_last_line_with_its_seed() -> None:
    tally = Tally()
    tally.add(result(7, "ok"))
    tally.add(result(8, "violated"))
    tally.add(result(9, "ok", trouble="not at rest"))
    assert verdict(tally, 7).splitlines()[-1].endswith("2 violations (seeds 8, 9)")


def test_faults_are_chosen_by_name_and_all_without_any() -> None:
    assert kinds_of("") == list(KINDS)
    assert kinds_of(" kill, stop ") == ["kill", "stop"]
    with pytest.raises(ValueError, match="there is no fault kil: the names are kill, "):
        kinds_of("kil,stop")
