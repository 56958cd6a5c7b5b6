"""The demo while it runs: one small table that is drawn four times a second, on a terminal only."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from fairline.demo.log import Log
from fairline.demo.scenario import Scenario
from fairline.demo.watch import Watch
from fairline.states import State
from loadtest.bystander import Bystander

EVERY_S: Final = 0.25  # a drawing costs about 4 ms of a core that the sale needs too


@asynccontextmanager
async def shown(
    console: Console, scenario: Scenario, log: Log, bystander: Bystander, watch: Watch
) -> AsyncIterator[None]:
    """Draw while the block runs, and once more at its end."""
    if not console.is_terminal:
        yield
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def draw() -> None:
            live.update(_drawn(scenario, log, bystander, watch), refresh=True)

        async def keep_drawing() -> None:
            while True:
                draw()
                await asyncio.sleep(EVERY_S)

        drawing = asyncio.create_task(keep_drawing(), name="drawing")
        try:
            yield
        finally:
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drawing
            draw()


def _drawn(scenario: Scenario, log: Log, bystander: Bystander, watch: Watch) -> Table:
    tickets = list(log.tickets.values())
    answered = sum(call.answered_s is not None for call in log.calls)
    told = sum(held.ended_s is not None for held in tickets)
    table = Table.grid(padding=(0, 2))
    _row(table, "requests answered", answered, scenario.requests)
    _row(table, "tickets told their end", told, len(tickets))
    for sku in scenario.skus:
        sold = bystander.counts.get(sku, {}).get(State.CONFIRMED, 0)
        _row(table, f"{sku} sold", sold, scenario.stock)
    _row(table, "rows in Postgres", watch.rows, scenario.stock * scenario.items)
    table.add_row(f"[dim]{time.monotonic() - log.began_s:.1f} s[/]" if log.began_s else "")
    return table


def _row(table: Table, name: str, done: int, total: int) -> None:
    table.add_row(name, ProgressBar(total=max(1, total), completed=done, width=40), f"{done:,} of {total:,}")
