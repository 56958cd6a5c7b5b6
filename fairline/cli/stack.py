"""``fairline up``, ``down``, ``status`` and ``stack``: the local stack."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from fairline.cli import CliError
from fairline.local import control, folder
from fairline.local.errors import StackError
from fairline.local.run import Options, Run
from fairline.local.stack import port_number

_ANSWER_WITHIN_S = 5.0
_STOP_WITHIN_S = 15.0  # the stack itself takes 10 s at most
_START_WITHIN_S = 70.0  # what the slowest server is given

stack = App(name="stack", help="Hold one process of a running stack down, and bring it back.")

Data = Annotated[Path, Parameter(help="Folder of the data.", env_var="FAIRLINE_DATA")]
Pairs = Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)]


def up(
    *,
    data: Data = folder.DEFAULT,
    detach: Annotated[bool, Parameter(negative=())] = False,
    copies: Pairs = None,
    port: Pairs = None,
) -> None:
    """Start the whole stack on this machine, until Ctrl-C.

    Args:
        data: Folder of the data; made when it is not there.
        detach: Come back as soon as everything is ready; ``fairline down`` stops it.
        copies: NAME=NUMBER, for example admission=2; may be given again.
        port: NAME=PORT, for example gateway=8080; may be given again. FAIRLINE_GATEWAY_PORT does the same.
    """
    options = Options(
        data=str(data.absolute()),
        copies={name: _number(text, name) for name, text in _pairs(copies, "--copies")},
        ports={name: port_number(text, f"--port {name}") for name, text in _pairs(port, "--port")},
    )
    if detach:
        from fairline.local.detach import start  # noqa: PLC0415 - loads what only this needs

        print(start(options, os.environ))
    else:
        asyncio.run(_run(options))


def down(*, data: Data = folder.DEFAULT, quiet: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Stop the stack of a folder; nothing to do when none runs there.

    Args:
        data: Folder of the data, which is kept.
        quiet: Say nothing.
    """
    pid = folder.holder(data)
    if pid is None:
        if not quiet:
            print(f"No stack runs in {data}.")
        return
    try:
        control.ask(data.absolute(), {"do": "down"}, within_s=_ANSWER_WITHIN_S)
    except StackError:
        os.kill(pid, signal.SIGTERM)  # it holds the folder, but does not listen yet or any more
    deadline = time.monotonic() + _STOP_WITHIN_S
    while folder.holder(data) == pid:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)  # its children die with it
            raise CliError(f"The stack in {data} did not stop within {_STOP_WITHIN_S:.0f} s and was killed.")
        time.sleep(0.05)
    if not quiet:
        print(f"Stopped the stack in {data}.")


def status(*, data: Data = folder.DEFAULT) -> None:
    """Show what runs; exit code 1 when nothing does.

    Args:
        data: Folder of the data.
    """
    answer = control.ask(data.absolute(), {"do": "status"}, within_s=_ANSWER_WITHIN_S)
    print(f"{data}: {'ready' if answer['ready'] else 'not ready'}")
    for process in answer["processes"]:
        print(f"  {process['name']:<16} {process['pid'] or '-':>8}  {process['state']}")


@stack.command(name="stop")
def stop_one(name: str, /, *, data: Data = folder.DEFAULT) -> None:
    """Stop one process and keep it down.

    Args:
        name: For example gateway, admission-2, redis.
        data: Folder of the data.
    """
    print(control.ask(data.absolute(), {"do": "stop", "name": name}, within_s=_STOP_WITHIN_S)["say"])


@stack.command(name="start")
def start_one(name: str, /, *, data: Data = folder.DEFAULT) -> None:
    """Bring back one process that is held down; comes back when it is ready.

    Args:
        name: For example gateway, admission-2, redis.
        data: Folder of the data.
    """
    print(control.ask(data.absolute(), {"do": "start", "name": name}, within_s=_START_WITHIN_S)["say"])


async def _run(options: Options) -> None:
    def say(line: str) -> None:
        print(line, flush=True)

    await Run(options, os.environ, say).serve(ready=say)


def _pairs(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    pairs = [(name, text) for name, _, text in (pair.partition("=") for pair in given or [])]
    if any(not name or not text for name, text in pairs):
        raise CliError(f"{option} wants NAME=NUMBER, for example {option} gateway=2.")
    return pairs


def _number(text: str, name: str) -> int:
    if not text.isdecimal() or len(text) > 3:  # noqa: PLR2004 - digits; Python reads no number of thousands of them
        raise CliError(f"--copies {name} is {text!r}: it wants a whole number.")
    return int(text)
