"""``python -m fairline.demo.play OPTIONS``: plays both sales against a stack, judges, reports. A process of its own.

Two sales, one after the other: the crowd's, without a limit, and a small paced one, so that invariant 6 has something
to be judged by. Exit code 0 only if every invariant holds in both; 1 if one does not; 2 if it could not be played.
"""

import gc
import json
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from rich.console import Console

from fairline.cli import CliError
from fairline.cli.client import Address, Operator
from fairline.demo import report
from fairline.demo.crowd import Crowd
from fairline.demo.progress import shown
from fairline.demo.scenario import Scenario
from fairline.demo.watch import Watch
from loadtest import read_finals
from loadtest.bystander import Bystander
from loadtest.checker import check
from loadtest.finals import FinalsError, save
from loadtest.history import read
from loadtest.recorder import Recorder

PASSED: Final = 0
FAILED: Final = 1
NOT_PLAYED: Final = 2
# A line much longer than its stock, admitted at a pace and a few at a time: about two seconds.
PACED_BUYERS: Final = 90
PACED_STOCK: Final = 30
PACED_RATE_PER_S: Final = 25.0
PACED_CAPACITY: Final = 5
LISTENING_WITHIN_S: Final = 10.0
SETTLE_WITHIN_S: Final = 10.0


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is played, on which stack, and where the result goes."""

    stack: Path
    out: Path
    seed: int
    buyers: int
    requests: int
    items: int
    stock: int
    connections: int
    give_up_s: float = 60.0

    def evidence(self, scenario: Scenario) -> Path:
        """Where the history of a sale goes, and what the servers hold of it in the end: to the stack's logs."""
        return self.stack.parent / "history" / scenario.sale_id

    def scenario(self) -> Scenario:
        """The crowd's sale. Its id is new each time: what an earlier one left behind is none of its business."""
        return Scenario(
            sale_id=f"demo-{self.seed}-{secrets.token_hex(3)}",
            seed=self.seed,
            buyers=self.buyers,
            requests=self.requests,
            items=self.items,
            stock=self.stock,
        )

    def paced(self) -> Scenario:
        """The second sale: every buyer asks for the same item, about once."""
        return Scenario(
            sale_id=f"paced-{self.seed}-{secrets.token_hex(3)}",
            seed=self.seed,
            buyers=PACED_BUYERS * 10,
            requests=PACED_BUYERS,
            items=1,
            stock=PACED_STOCK,
            rate_per_s=PACED_RATE_PER_S,
            capacity=PACED_CAPACITY,
            name="A paced sale",
        )


async def stage(options: Options, scenario: Scenario, stack: Mapping[str, Any], console: Console) -> report.Played:
    """Create and open one sale, send its crowd, wait for the end, read everything, have it checked.

    The history and the contents are kept until both sales have been judged.
    """
    sale_id, folder = scenario.sale_id, options.evidence(scenario)
    at = {name: stack[name] for name in ("redis_url", "postgres_dsn")}
    folder.mkdir(parents=True)
    with Recorder(folder / "history.jsonl", sale_id=sale_id, seed=scenario.seed) as history:
        crowd = Crowd(
            scenario,
            stack["gateway_url"],
            history=history,
            connections=options.connections,
            give_up_s=options.give_up_s,
        )
        async with (
            Operator(Address(stack["gateway_url"], stack["operator_key"])) as operator,
            Bystander(sale_id, history, **at) as bystander,
            Watch(at["postgres_dsn"], sale_id) as watch,
        ):
            await bystander.listening(within_s=LISTENING_WITHIN_S)
            definition = scenario.definition()
            history.sent("create", body=msgspec.to_builtins(definition))
            await operator.create(definition)
            history.sent("open")
            await operator.act(sale_id, "open")
            async with shown(console, scenario, crowd.log, bystander, watch):
                await crowd.play()
                history.rest(rested=not await bystander.at_rest(within_s=SETTLE_WITHIN_S))
            await crowd.ask_again()
    finals = await read_finals.read(sale_id, kafka=stack["kafka"], **at)
    save(finals, folder / "finals.json")
    findings = check(read([folder / "history.jsonl"]), finals)
    return report.Played(log=crowd.log, finals=finals, last_row_s=watch.last_row_s, findings=findings)


async def play(options: Options, console: Console) -> bool:
    """Both sales, the verdict, the report; whether everything holds."""
    stack = json.loads(options.stack.read_text())
    scenario, paced = options.scenario(), options.paced()
    console.print(
        f"{scenario.buyers:,} buyers, {scenario.requests:,} requests, {scenario.items} items x {scenario.stock} units, "
        f"seed {scenario.seed}"
    )
    gc.collect()
    gc.freeze()
    first = await stage(options, scenario, stack, console)
    console.print("and a paced sale ...", style="dim")
    second = await stage(options, paced, stack, console)
    invariants = report.joined(first.findings, second.findings)
    told = report.figures(scenario, first, invariants)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(told, indent=2) + "\n")
    report.show(console, told)
    console.print(f"[dim]{options.out}[/]")
    held = all(each.ok for each in invariants)
    for folder in map(options.evidence, (scenario, paced)):
        if held:
            shutil.rmtree(folder)
        else:
            console.print(f"[dim]python -m loadtest.checker {folder}[/]")
    return held


def main() -> None:
    """The process: options as one JSON argument."""
    options = msgspec.json.decode(sys.argv[1], type=Options, dec_hook=lambda kind, text: kind(text))
    # In a terminal Ctrl-C reaches this process too; whoever started it says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    try:
        held = uvloop.run(play(options, console))
    except (CliError, FinalsError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - for whoever started it
        sys.exit(NOT_PLAYED)
    sys.exit(PASSED if held else FAILED)


if __name__ == "__main__":
    main()
