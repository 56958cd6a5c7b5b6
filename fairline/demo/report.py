"""What the demo says in the end: ``build/demo.json`` and tables for people, from the same figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from fairline.demo.log import percentiles
from fairline.demo.scenario import Scenario
from fairline.demo.verdict import Evidence, Finding
from fairline.states import State


def joined(first: Sequence[Finding], paced: Sequence[Finding]) -> list[Finding]:
    """One finding an invariant for both sales: it holds only if it holds in both.

    The second sale is the paced one, so invariant 6 takes its evidence; the others the first sale's.
    """
    both = []
    for one, two in zip(first, paced, strict=True):
        if not one.ok and not two.ok:
            both.append(Finding(one.name, ok=False, evidence=f"{one.evidence}; paced sale: {two.evidence}"))
        elif not two.ok or "no limit was set" in one.evidence:
            both.append(Finding(two.name, two.ok, f"paced sale, {two.evidence}"))
        else:
            both.append(one)
    return both


def items(e: Evidence) -> list[dict[str, Any]]:
    """A row an item: what the crowd was told, what Redis has left, what Postgres has."""
    rows = []
    for sku, stock in e.stock.items():
        states = [held.state for held in e.tickets(sku)]
        rows.append(
            {
                "sku": sku,
                "stock": stock,
                "confirmed": states.count(State.CONFIRMED),
                "declined": states.count(State.DECLINED),
                "sold_out": states.count(State.SOLD_OUT),
                "released": states.count(State.RELEASED),
                "left_in_redis": e.redis.left[sku],
                "rows_in_postgres": sum(row.sku == sku for row in e.rows),
            }
        )
    return rows


def figures(scenario: Scenario, e: Evidence, findings: Sequence[Finding]) -> dict[str, Any]:
    """The whole of ``demo.json``."""
    log = e.log
    answered_s = log.answered_s()
    persisted_s = max(0.0, e.seen.last_row_s - log.began_s) if e.seen.last_row_s else 0.0
    return {
        "verdict": "pass" if all(finding.ok for finding in findings) else "fail",
        "scenario": {
            "buyers": scenario.buyers,
            "requests": len(log.calls),
            "answers": log.answers(),
            "items": items(e),
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
        "invariants": [{"name": finding.name, "ok": finding.ok, "evidence": finding.evidence} for finding in findings],
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
