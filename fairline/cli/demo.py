"""``fairline demo``: a stack of its own, the scenario from a process of its own, a verdict, and then a sale to try.

What must never happen: a stack that is left behind, or exit code 0 without a pass.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter
from cyclopts.validators import Number

from fairline.cli import CliError
from fairline.cli.client import Address, running_stack
from fairline.demo import play, scenario
from fairline.demo.crowd import CONNECTIONS
from fairline.demo.people import IN_LINE, RATE_PER_S, open_for_people
from fairline.local import control
from fairline.local.errors import StackError
from fairline.local.program import Program
from fairline.local.run import Options, Run

OUT: Final = Path("build/demo.json")
_ANSWER_WITHIN_S: Final = 5.0
_INTERRUPTED: Final = 130
_Some = Annotated[int, Parameter(validator=Number(gte=1, lte=1_000_000))]


def demo(
    *,
    buyers: _Some = scenario.BUYERS,
    requests: _Some = scenario.REQUESTS,
    items: Annotated[int, Parameter(validator=Number(gte=1, lte=50))] = scenario.ITEMS,
    stock: _Some = scenario.STOCK,
    seed: int | None = None,
    connections: Annotated[int, Parameter(validator=Number(gte=1, lte=1000))] = CONNECTIONS,
    out: Path = OUT,
    on: Path | None = None,
    keep: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Play a rush on a fresh stack and judge it: what must hold, with the evidence. Exit code 0 only if all holds.

    Afterwards, on a terminal, a second sale stays open for you until Ctrl-C.

    Args:
        buyers: How many different buyers.
        requests: How many purchase requests they send, at random.
        items: How many things are on sale.
        stock: Units of each.
        seed: Of everything that is random; printed, so that a run can be repeated.
        connections: Requests on their way at a time.
        out: Where the result is written as JSON.
        on: Play on the stack that runs in this folder, instead of starting one.
        keep: Keep the data folder (and with it the logs) of a run that passed.
    """
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    wanted = play.Options(
        stack=Path(),
        out=out.absolute(),
        seed=seed,
        buyers=buyers,
        requests=requests,
        items=items,
        stock=stock,
        connections=connections,
    )
    _forget_earlier(wanted.out)
    code = asyncio.run(_on_running(wanted, on) if on else _on_fresh(wanted, keep=keep))
    if code:
        sys.exit(code)


def _forget_earlier(out: Path) -> None:
    """Its verdict must not be taken for that of a run which could not be played."""
    if out.is_file():  # and not /dev/null
        try:
            out.unlink()
        except OSError as error:
            raise CliError(f"{out} cannot be written anew ({error.strerror}): name another --out.") from None


async def _on_running(wanted: play.Options, data: Path) -> int:
    if running_stack(data) is None:
        raise CliError(f"No stack runs in {data}: start one with fairline up, or leave --on out.")
    async with _player(msgspec.structs.replace(wanted, stack=(data / "stack.json").absolute())) as player:
        return await player.wait()


async def _on_fresh(wanted: play.Options, *, keep: bool) -> int:
    try:
        wanted.out.parent.mkdir(parents=True, exist_ok=True)
        data = Path(tempfile.mkdtemp(prefix="demo-", dir=wanted.out.parent))
    except OSError as error:
        raise CliError(f"{wanted.out.parent} cannot be written to ({error.strerror}): name another --out.") from None
    code = play.FAILED
    try:
        code = await _with_stack(msgspec.structs.replace(wanted, stack=data / "stack.json"), data)
    finally:
        if code in {play.PASSED, _INTERRUPTED} and not keep:
            shutil.rmtree(data, ignore_errors=True)
        elif (data / "logs").exists():
            print(f"The logs are in {data / 'logs'}.", file=sys.stderr)
        else:
            shutil.rmtree(data, ignore_errors=True)
    return code


async def _with_stack(wanted: play.Options, data: Path) -> int:
    """Start the stack, play, perhaps stay; the stack is gone when this comes back."""
    print("Starting Redis, Kafka, Postgres and the four services ...", flush=True)
    ready = asyncio.Event()

    def say(line: str) -> None:
        if not line.startswith("stopped after"):  # and what the next start will find: there is none, the folder goes
            print(line, flush=True)

    run = Run(Options(data=str(data)), os.environ, say)
    serving = asyncio.create_task(run.serve(lambda _: ready.set()), name="stack")
    try:
        if not await _before(ready.wait(), serving):
            return _INTERRUPTED
        async with _player(wanted) as player:
            if not await _before(player.wait(), serving):
                return _INTERRUPTED
            code = player.returncode or play.PASSED
        if code == play.PASSED and sys.stdout.isatty():
            await _stay(data, serving)
        return code
    finally:
        if not serving.done():
            try:
                await asyncio.to_thread(control.ask, data, {"do": "down"}, within_s=_ANSWER_WITHIN_S)
            except StackError:
                serving.cancel()  # it does not listen yet, or not any more; cancelled, it stops everything too
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def _before(work: Awaitable[object], serving: "asyncio.Task[None]") -> bool:
    """Whether the work was done before the stack ended; raises what ended the stack."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, serving}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
        return True
    task.cancel()
    await serving
    return False


@asynccontextmanager
async def _player(wanted: play.Options) -> AsyncIterator[asyncio.subprocess.Process]:
    """The crowd's process; it ends with the block, and with this process."""
    program = Program(
        name="demo",
        argv=[sys.executable, "-m", "fairline.demo.play", msgspec.json.encode(wanted, enc_hook=str).decode()],
        env={},
        cwd=Path(),
        death_signal=signal.SIGTERM,
    )
    player = await asyncio.create_subprocess_exec(*program.command(), stdin=asyncio.subprocess.DEVNULL)
    try:
        yield player
    finally:
        with contextlib.suppress(ProcessLookupError):
            player.terminate()
        await player.wait()


async def _stay(data: Path, serving: "asyncio.Task[None]") -> None:
    """Open the second sale, say where it is, and wait for Ctrl-C."""
    stack = running_stack(data)
    if stack is None:
        return
    sale_id = await open_for_people(Address(stack["gateway_url"], stack["operator_key"]))
    print(
        f"\nA second sale is open: {IN_LINE} are in line before you, {RATE_PER_S:g} are admitted a second.\n\n"
        f"  join it    {stack['gateway_url']}/room/{sale_id}\n"
        f"  watch it   {stack['console_url']}\n"
        f"  key        {stack['operator_key']}\n\n"
        "Ctrl-C stops everything.",
        flush=True,
    )
    await serving
