"""The ``fairline`` command.

Each other file of this package has the commands of one subject; ``COMMANDS`` says where each is, and only the
one that was asked for is imported. A command prints its result and returns nothing, or raises a ``CliError``
whose text is one sentence that says what to do: it goes to standard error, and the exit code is 1.
"""

import os
import sys
from importlib.metadata import version

from cyclopts import App

from fairline.local.errors import StackError

# Name -> where it is; a group of commands is an ``App`` of that name. Add a line for a new command.
COMMANDS = {
    "up": "fairline.cli.stack:up",
    "down": "fairline.cli.stack:down",
    "status": "fairline.cli.stack:status",
    "stack": "fairline.cli.stack:stack",
    "demo": "fairline.cli.demo:demo",
    "check": "fairline.cli.check:check",
    "verify": "fairline.cli.verify:verify",
    "sale": "fairline.cli.sale:sale",
    "rate": "fairline.cli.sale:rate",
    "stock": "fairline.cli.sale:stock",
    "stats": "fairline.cli.sale:stats",
    "recover": "fairline.cli.recover:recover",
    "reconcile": "fairline.cli.reconcile:reconcile",
    "dlt": "fairline.cli.dlt:dlt",
    "key": "fairline.cli.keys:key",
}
_OVERVIEW = {"--help", "-h"}
_INTERRUPTED, _UNREAD = 130, 141  # as a shell says of SIGINT and SIGPIPE


class CliError(Exception):
    """The command cannot do what was asked; the text is one sentence for the person who asked."""


app = App(
    name="fairline",
    help="A waiting room and first-come-first-served sale engine.",
    result_action="return_none",
)
for _name, _place in COMMANDS.items():
    app.command(_place, name=_name)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; ends the process with exit code 1 after a sentence about what went wrong."""
    app.version = version("fairline")
    if set(sys.argv[1:] if arguments is None else arguments) <= _OVERVIEW:
        for name in COMMANDS:
            app[name]  # imports it, so that the overview has its description
    try:
        app(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has had enough, like head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit goes there
        sys.exit(_UNREAD)
    except (CliError, StackError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
