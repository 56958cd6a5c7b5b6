"""``fairline recover``: rebuild a sale by hand, or show what that would do. Lost sales are rebuilt without it."""

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from fairline.cli.client import said_by_admission
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
    said = said_by_admission(
        data, "admission.by_hand", sale_id, *(["--yes"] if yes else []), otherwise="The rebuild ended without a word."
    )
    if json:
        show_json(said)
        return
    found: dict[str, Any] = msgspec.json.decode(said)
    found["halted"] = "yes" if found["halted"] else "no"
    found["free"] = ", ".join(f"{sku} {units}" for sku, units in found["free"].items())
    show_pairs([(label, found[name]) for name, label in _SAID.items()])
    print(f"{sale_id} is rebuilt." if yes else "Nothing was changed; --yes does it.")
