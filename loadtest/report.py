"""What is found of one invariant: the faults, what could not be decided, and the one sentence that comes of it."""

from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

Verdict = Literal["ok", "violated", "cannot tell"]
SHOWN: Final = 3


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One invariant: its number in the design, what is decided, the shortest evidence, and all tickets it is about."""

    number: int
    name: str
    verdict: Verdict
    evidence: str
    tickets: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.verdict:<11}  {self.number} {self.name}: {self.evidence}"


@dataclass(slots=True)
class Report:
    """Gathers while one invariant is looked at. A fault outweighs every doubt."""

    faults: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    tickets: dict[str, None] = field(default_factory=dict)
    doubtful: dict[str, None] = field(default_factory=dict)

    def fault(self, said: str, *tickets: str) -> None:
        """This cannot be in a right system."""
        self.faults.append(said)
        self.tickets.update(dict.fromkeys(tickets))

    def doubt(self, said: str, *tickets: str) -> None:
        """This would have to be known."""
        self.doubts.append(said)
        self.doubtful.update(dict.fromkeys(tickets))

    def stuck(self, said: str, *tickets: str, rested: bool) -> None:
        """A fault if the end was waited for; while things may still move, nobody can tell."""
        if rested:
            self.fault(f"{said}, at rest", *tickets)
        else:
            self.doubt(f"{said}, but the end was not waited for", *tickets)

    def finding(self, number: int, name: str, good: str) -> Finding:
        """The verdict, with the first few things that led to it."""
        said, verdict, tickets = good, "ok", tuple(self.tickets)
        if self.faults:
            said, verdict = _first(self.faults), "violated"
        elif self.doubts:
            said, verdict, tickets = f"{_first(self.doubts)}; otherwise {good}", "cannot tell", tuple(self.doubtful)
        return Finding(number=number, name=name, verdict=verdict, evidence=said, tickets=tickets)


def _first(said: list[str]) -> str:
    more = f"; and {len(said) - SHOWN} more" if len(said) > SHOWN else ""
    return "; ".join(said[:SHOWN]) + more
