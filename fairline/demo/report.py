"""What the demo says in the end: ``build/demo.json`` and tables for people, from the same figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fairline.demo.log import Log, percentiles
from fairline.demo.scenario import Scenario
from fairline.states import State
from loadtest.finals import Finals
from loadtest.report import Finding


@dataclass(frozen=True, kw_only=True)
class Played:
    """A sale that was played: what the crowd knows, what the servers hold, when the last row came, the findings."""

    log: Log
    finals: Finals
    last_row_s: float
    findings: Sequence[Finding]


@dataclass(frozen=True)
class Invariant:
    """One invariant: does it hold, and what shows it."""

    name: str
    ok: bool
    evidence: str


def joined(first: Sequence[Finding], paced: Sequence[Finding]) -> list[Invariant]:
    """Both sales' findings in one: an invariant holds only if it is sure in both, since here everything is known.

    The second sale is the paced one, so invariant 6 takes its evidence; the others the first sale's.
    """
    both = []
    for one, two in zip(first, paced, strict=True):
        evidence = one.evidence
        if two.verdict != "ok" or "no limit was set" in evidence:
            evidence = (
                f"{evidence}; paced sale: {two.evidence}" if one.verdict != "ok" else f"paced sale, {two.evidence}"
            )
        both.append(Invariant(one.name, one.verdict == two.verdict == "ok", evidence))
    return both


def items(played: Played) -> list[dict[str, Any]]:
    """A row an item: what the crowd was told, what Redis has left, what Postgres has."""
    rows = []
    for sku, item in played.finals.redis.items.items():
        states = [held.state for held in played.log.tickets.values() if held.sku == sku]
        rows.append(
            {
                "sku": sku,
                "stock": item.stock,
                "confirmed": states.count(State.CONFIRMED),
                "declined": states.count(State.DECLINED),
                "sold_out": states.count(State.SOLD_OUT),
                "released": states.count(State.RELEASED),
                "left_in_redis": len(item.free()),
                "rows_in_postgres": sum(unit.sku == sku for unit in played.finals.postgres.units),
            }
        )
    return rows


def figures(scenario: Scenario, played: Played, invariants: Sequence[Invariant]) -> dict[str, Any]:
    """The whole of ``demo.json``."""
    log = played.log
    answered_s = log.answered_s()
    persisted_s = max(0.0, played.last_row_s - log.began_s) if played.last_row_s else 0.0
    return {
        "verdict": "pass" if all(each.ok for each in invariants) else "fail",
        "scenario": {
            "buyers": scenario.buyers,
            "requests": len(log.calls),
            "answers": log.answers(),
            "items": items(played),
            "seed": scenario.seed,
            "sale_id": scenario.sale_id,
            "repeated": sum(call.attempts - 1 for call in log.calls),
            "connections": log.connections,
            "frames": log.frames,
        },
        "wall_s": {
            "answered": round(answered_s, 3),
            "persisted": round(persisted_s, 3),
            "told": round(log.told_s(), 3),
        },
        "requests_per_s": round(len(log.calls) / answered_s, 1) if answered_s else 0.0,
        "join_ms": percentiles(log.join_ms()),
        "result_ms": percentiles(log.result_ms()),
        "invariants": [asdict(each) for each in invariants],
    }


def show(console: Console, told: Mapping[str, Any]) -> None:
    """Print the figures for people."""
    scenario = told["scenario"]
    for title, table in (
        (f"{scenario['requests']:,} requests of {scenario['buyers']:,} buyers, by answer", _answers(scenario)),
        ("What became of it", _items(scenario["items"])),
        (f"How long it took: {told['requests_per_s']:,.0f} requests a second", _times(told)),
        ("What must hold", _verdicts(told["invariants"])),
    ):
        console.print(f"\n[bold]{title}[/]")  # not the table's own title, which is folded to the table's width
        console.print(table)
    passed = told["verdict"] == "pass"
    console.print(f"Verdict: [bold {'green' if passed else 'red'}]{told['verdict']}[/]")


def _answers(scenario: Mapping[str, Any]) -> Table:
    table = _table()
    table.add_column("answer")
    table.add_column("requests", justify="right")
    for word, count in scenario["answers"].items():
        table.add_row(word, f"{count:,}")
    if scenario["repeated"]:
        table.add_row("(sent again with the same key)", f"{scenario['repeated']:,}")
    return table


def _items(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _table()
    for at, name in enumerate(rows[0]):
        table.add_column(name.replace("_", " "), justify="left" if at == 0 else "right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:,}" for value in row.values()))
    return table


def _times(told: Mapping[str, Any]) -> Table:
    table = _table()
    for at, name in enumerate(("", "last", "p50", "p95", "p99")):
        table.add_column(name, justify="left" if at == 0 else "right")
    wall_s = told["wall_s"]

    def row(name: str, last_s: float, spread: Mapping[str, float] | None = None) -> None:
        table.add_row(name, f"{last_s:.2f} s", *(f"{value:,.1f} ms" for value in (spread or {}).values()))

    row("requests answered", wall_s["answered"], told["join_ms"])
    row("orders in Postgres", wall_s["persisted"])
    row("buyers told", wall_s["told"], told["result_ms"])
    return table


def _verdicts(invariants: Sequence[Mapping[str, Any]]) -> Table:
    table = _table()
    table.add_column("")
    table.add_column("invariant", no_wrap=True)
    table.add_column("evidence", overflow="fold")
    for number, each in enumerate(invariants, 1):
        mark = "[green]holds[/]" if each["ok"] else "[bold red]BROKEN[/]"
        table.add_row(mark, f"{number} {each['name']}", each["evidence"])
    return table


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False)
