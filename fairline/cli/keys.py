"""``fairline key``: operators' keys. A key is shown once, when it is made."""

import sys

from cyclopts import App

from fairline.cli.client import Role
from fairline.cli.output import ASKING, Asking, show_json, show_rows

key = App(name="key", help="Make, list and revoke the keys of operators (needs the role admin).")


@key.command
def add(name: str, /, *, role: Role = "operator", asking: Asking = ASKING) -> None:
    """Make a key and print it. It is shown this once; only its hash is stored.

    Args:
        name: Whose it is; 1 to 64 lower-case letters, digits, dots, underscores and hyphens.
        role: viewer reads, operator also changes sales, admin also makes keys.
        asking: Where to ask, and how to print.
    """
    reply = asking.ask(lambda operator: operator.add_key(name, role))
    if asking.json:
        show_json(reply.raw)
        return
    print(reply.value.key)
    print(f"This is the key of {name}, role {role}. Keep it: it is not shown again.", file=sys.stderr)


@key.command(name="list")
def list_keys(*, asking: Asking = ASKING) -> None:
    """List the keys, without the keys themselves."""
    reply = asking.ask(lambda operator: operator.keys())
    if asking.json:
        show_json(reply.raw)
    else:
        rows = [
            (each.name, each.role, each.created_at and f"{each.created_at:%Y-%m-%d %H:%M}") for each in reply.value.keys
        ]
        show_rows(("name", "role", "made (UTC)"), rows)


@key.command
def revoke(name: str, /, *, asking: Asking = ASKING) -> None:
    """End a key; calls with it are refused within a second."""
    asking.ask(lambda operator: operator.revoke_key(name))
    if asking.json:
        show_json({"name": name, "revoked": True})
    else:
        print(f"{name} is revoked.")
