"""The checker: decides the eight invariants of the design from outside. ``docs/guarantees.md`` says what each looks at.

Pure: the clients' own history and what Redis, Kafka and Postgres hold in the end go in, one finding for each invariant
comes out. Nothing that a service says of itself is believed. What is not sure is held against nobody: a call without an
answer may have happened or not, and what two clocks bracket happened somewhere in between. After a loss of Redis's
data, which the history says in a fault, exactly what rule D5 leaves open is allowed.

``fairline verify`` checks a sale that is there; ``python -m loadtest.checker FOLDER`` judges kept evidence once more.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from loadtest.case import Case
from loadtest.finals import Finals, FinalsError, load
from loadtest.history import History, HistoryError, read
from loadtest.invariants.buyers import one_per_buyer
from loadtest.invariants.counts import nothing_in_secret
from loadtest.invariants.order import in_order
from loadtest.invariants.outcomes import no_lost_order, one_outcome
from loadtest.invariants.pace import never_faster
from loadtest.invariants.stock import never_oversold, never_undersold
from loadtest.report import Finding, Report

HOLDS: Final = 0
VIOLATED: Final = 1
NOT_READ: Final = 2

INVARIANTS: Final[dict[str, Callable[[Case, Report], str]]] = {
    "never oversold": never_oversold,
    "never undersold": never_undersold,
    "one outcome": one_outcome,
    "no lost order": no_lost_order,
    "in order": in_order,
    "never faster than told": never_faster,
    "one per buyer": one_per_buyer,
    "nothing in secret": nothing_in_secret,
}


def check(history: History | None, finals: Finals) -> list[Finding]:
    """A finding for each invariant, in the design's order. Without a history, what the contents alone can decide.

    The history must be that of everybody who used the sale. Time and memory grow with it; what compares admissions with
    a rate grows with the square of those admitted.
    """
    case = Case(history, finals)
    found = []
    for number, (name, decide) in enumerate(INVARIANTS.items(), 1):
        report = Report()
        good = decide(case, report)
        found.append(report.finding(number, name, good))
    return found


def exit_code(findings: list[Finding]) -> int:
    """1 if anything is violated, else 0."""
    return VIOLATED if any(finding.verdict == "violated" for finding in findings) else HOLDS


def main(arguments: list[str]) -> int:
    """Judge a folder with ``finals.json`` and, where a history was recorded, ``*.jsonl``."""
    if len(arguments) != 1:
        print("usage: python -m loadtest.checker FOLDER", file=sys.stderr)
        return NOT_READ
    folder = Path(arguments[0])
    try:
        paths = list(folder.glob("*.jsonl"))
        findings = check(read(paths) if paths else None, load(folder / "finals.json"))
    except (HistoryError, FinalsError, OSError) as error:
        print(error, file=sys.stderr)
        return NOT_READ
    for finding in findings:
        print(finding)
    return exit_code(findings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
