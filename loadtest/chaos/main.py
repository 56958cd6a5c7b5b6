"""``python -m loadtest.chaos``: rounds until there were enough of them, the time is over, or Ctrl-C; then the verdict.

Exit code 0 only if every round held; 1 if one did not, 2 if nothing could be begun, 130 after Ctrl-C.
"""

import asyncio
import contextlib
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import uvloop
from cyclopts import App, Parameter
from cyclopts.validators import Number

from fairline.local.errors import StackError
from loadtest.chaos.faults import Thrown
from loadtest.chaos.plan import KINDS, draw
from loadtest.chaos.round import Result, play
from loadtest.chaos.shop import a_shop
from loadtest.chaos.world import PROCESSES, World

OUT: Final = Path("build/chaos")
ROUNDS: Final = 5
ROUNDS_A_STACK: Final = 25  # each leaves a sale that a lost Redis has to be given back too
MOST_ROUNDS: Final = 10_000
MOST_MINUTES: Final = 1_440
BROKEN, NOT_BEGUN, INTERRUPTED = 1, 2, 130
_SHOWN: Final = 5


@dataclass
class Tally:
    """What a run has come to."""

    rounds: int = 0
    failed: list[int] = field(default_factory=list)
    tickets: int = 0
    confirmed: int = 0
    thrown: Thrown = field(default_factory=Thrown)

    def add(self, result: Result) -> None:
        """One more round."""
        self.rounds += 1
        self.tickets += result.tickets
        self.confirmed += result.confirmed
        self.thrown.add(result.thrown)
        if not result.held:
            self.failed.append(result.plan.seed)


class Run:
    """Rounds on one stack; a new stack after a round that failed, which may have left anything behind."""

    def __init__(self, seed: int, kinds: Sequence[str], out: Path) -> None:
        self.tally = Tally()
        self._seed = seed
        self.kinds = kinds
        self._out = out
        out.mkdir(parents=True, exist_ok=True)

    async def play(self, *, rounds: int, until_s: float) -> None:
        """So many, but none is begun after ``until_s``."""
        async with a_shop() as shop_url:
            while self._more(rounds, until_s):
                data = Path(tempfile.mkdtemp(prefix="stack-", dir=self._out))
                try:
                    async with World(data) as world:
                        last = min(rounds, self.tally.rounds + ROUNDS_A_STACK)
                        held = True
                        while held and self._more(last, until_s):
                            held = await self._round(world, shop_url)
                finally:
                    await asyncio.to_thread(shutil.rmtree, data, ignore_errors=True)

    def _more(self, rounds: int, until_s: float) -> bool:
        return self.tally.rounds < rounds and time.monotonic() < until_s

    async def _round(self, world: World, shop_url: str) -> bool:
        seed = self._seed + self.tally.rounds
        plan = draw(seed, self.kinds, sale_id=f"chaos-{seed}-{secrets.token_hex(2)}", shop_url=shop_url)
        folder = self._out / plan.sale.sale_id
        result = await play(world, plan, folder)
        self.tally.add(result)
        say(line(self.tally.rounds, result))
        for missed in result.thrown.missed:
            say(f"    not thrown: {missed}")
        if not result.held:
            for fault in result.faults()[:_SHOWN]:
                say(f"    {fault}")
            chosen = "" if set(self.kinds) == set(KINDS) else f" FAULTS={','.join(self.kinds)}"
            say(f"    evidence: {folder}")
            say(f"    again:    make chaos ROUNDS=1 SEED={seed}{chosen}")
        return result.held


def line(number: int, result: Result) -> str:
    """A round in a line."""
    faults = ", ".join(map(str, result.plan.faults)) or "no fault"
    return (
        f"round {number:3} seed {result.plan.seed}: {faults}; "
        f"{result.tickets} tickets, {result.confirmed} confirmed, {result.took_s:.0f} s: {outcome(result)}"
    )


def outcome(result: Result) -> str:
    """The end of its line."""
    if not result.held:
        return "VIOLATED" if result.violated else "NOT HEALED"
    unsure = sum(finding.verdict == "cannot tell" for finding in result.findings)
    return f"ok, {unsure} cannot tell" if unsure else "ok"


def verdict(tally: Tally, seed: int) -> str:
    """The last lines of a run."""
    killed = ", ".join(f"{name} {tally.thrown.killed[name]}" for name in PROCESSES)
    thrown = ", ".join(f"{kind} {tally.thrown.faults[kind]}" for kind in KINDS)
    last = (
        f"{tally.rounds} rounds from seed {seed}, {tally.tickets} tickets, {tally.confirmed} confirmed: "
        f"{len(tally.failed)} violations"
    )
    failed = f" (seeds {', '.join(map(str, tally.failed))})" if tally.failed else ""
    return f"killed: {killed}\nthrown: {thrown}; {len(tally.thrown.missed)} could not be\n{last}{failed}"


def say(text: str) -> None:
    """To whoever watches."""
    print(text, flush=True)


def kinds_of(text: str) -> list[str]:
    """Names by commas; all of them where there is none. Raises ``ValueError`` for one that is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        raise ValueError(f"there is no fault {', '.join(unknown)}: the names are {', '.join(KINDS)}")
    return names or list(KINDS)


def chaos(
    *,
    rounds: Annotated[int | None, Parameter(validator=Number(gte=1, lte=MOST_ROUNDS))] = None,
    seed: int | None = None,
    minutes: Annotated[float | None, Parameter(validator=Number(gt=0, lte=MOST_MINUTES))] = None,
    faults: str = "",
    out: Path = OUT,
) -> None:
    """Break a running stack at random, let it heal, and have everything judged that everybody was told.

    Args:
        rounds: How many, of a minute at most each; 5 where nothing is said, without a limit where minutes are.
        seed: Of the first round; the next one has the next number. Printed, so that each can be played again.
        minutes: No round is begun after that.
        faults: Which kinds, by commas; all of them without it.
        out: Where the evidence of rounds goes that failed.
    """
    try:
        kinds = kinds_of(faults)
    except ValueError as error:
        say(str(error))
        sys.exit(NOT_BEGUN)
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    rounds = rounds or (MOST_ROUNDS if minutes else ROUNDS)
    minutes = minutes or MOST_MINUTES
    sys.exit(uvloop.run(_chaos(Run(seed, kinds, out.absolute()), seed, rounds=rounds, minutes=minutes)))


async def _chaos(run: Run, seed: int, *, rounds: int, minutes: float) -> int:
    playing = asyncio.create_task(run.play(rounds=rounds, until_s=time.monotonic() + minutes * 60), name="chaos")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, playing.cancel)
    say(f"seed {seed}, faults {', '.join(run.kinds)}")
    code = 0
    try:
        await playing
    except asyncio.CancelledError:
        code = INTERRUPTED
    except StackError as error:
        say(str(error))
        return NOT_BEGUN
    finally:
        with contextlib.suppress(ValueError):
            say(verdict(run.tally, seed))
    return code or (BROKEN if run.tally.failed or not run.tally.rounds else 0)


def main() -> None:
    """The command."""
    app = App(name="chaos", help_format="plaintext", version_flags=[])
    app.default(chaos)
    app()


if __name__ == "__main__":
    main()
