"""``fairline recover``: rebuild a sale by hand, or show what that would do. Lost sales are rebuilt without it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from fairline.cli import CliError
from fairline.cli.client import addresses_of_admission
from fairline.cli.output import show_json, show_pairs
from fairline.local.folder import DEFAULT

_SAID: Final = {
    "halted": "halted before",
    "epoch": "its epoch",
    "verdicts": "orders decided by Postgres",
    "restored": "tickets that Redis had lost",
    "overruled": "tickets that Redis had in another state",
    "kept": "orders that keep their units and are sent again",
    "in_line": "tickets that wait until their buyers ask",
    "free": "units free",
}


def recover(
    sale_id: str,
    /,
    *,
    yes: Annotated[bool, Parameter(negative=())] = False,
    data: Annotated[Path, Parameter(help="Folder of the local stack.", env_var="FAIRLINE_DATA")] = DEFAULT,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Show what a rebuild of a sale would do, as it stands now; with --yes do it.

    A sale that runs is halted for it: everybody reads `recovering` meanwhile, and nobody is admitted for ten seconds
    after it.
    The addresses are found as by `fairline reconcile`.

    Args:
        sale_id: The sale.
        yes: Do it.
        data: Folder of the local stack.
        json: Print JSON.
    """
    command = [sys.executable, "-m", "admission.by_hand", sale_id, *(["--yes"] if yes else [])]
    environ = {**os.environ, **addresses_of_admission(data, os.environ)}
    done = subprocess.run(command, env=environ, capture_output=True, check=False)
    if done.returncode != 0:
        raise CliError(done.stderr.decode(errors="replace").strip() or "The rebuild ended without a word.")
    if json:
        show_json(done.stdout)
        return
    found: dict[str, Any] = msgspec.json.decode(done.stdout)
    show_pairs([(said, found[name]) for name, said in _SAID.items()])
    print(f"{sale_id} is rebuilt." if yes else "Nothing was changed; --yes does it.")
