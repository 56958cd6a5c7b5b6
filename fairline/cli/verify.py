"""``fairline verify``: the eight invariants of one sale, decided from outside.

Nothing is asked of a service: the checker reads Redis, Kafka and Postgres itself, and believes beside them only what
clients recorded. Exit code 0 where nothing is violated, 1 where something is, 2 where it could not be read.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import Parameter

from fairline.cli import CliError
from fairline.cli.check import addresses
from fairline.cli.client import running_stack
from fairline.cli.output import show_json
from fairline.local.folder import DEFAULT
from loadtest.checker import NOT_READ, check, exit_code
from loadtest.finals import FinalsError, save
from loadtest.history import HistoryError, read
from loadtest.read_finals import read as read_finals


def verify(
    sale_id: str,
    /,
    *,
    history: Annotated[list[Path] | None, Parameter(negative=())] = None,
    keep: Path | None = None,
    data: Annotated[Path, Parameter(help="Folder of the local stack.", env_var="FAIRLINE_DATA")] = DEFAULT,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Check what must hold of a sale: ok, violated or cannot tell, with the evidence. Best when the sale is at rest.

    The addresses are those of the stack that runs in the data folder; where none runs, FAIRLINE_REDIS_URL,
    FAIRLINE_KAFKA and FAIRLINE_POSTGRES_DSN. Exit code 1 when something is violated, 2 when a server cannot be read.

    Args:
        sale_id: The sale.
        history: File of a client's history; may be given again. Without any, only what the servers hold is judged.
        keep: File for what was read, as JSON.
        data: Folder of the local stack.
        json: Print JSON.
    """
    try:
        parts = addresses(running_stack(data), os.environ)
    except CliError as error:
        _give_up(str(error))
    if missing := [name for name in ("redis", "kafka", "postgres") if not parts.get(name)]:
        _give_up(
            f"No stack runs in {data} and the environment does not say where {', '.join(missing)} are: start one "
            "with fairline up, or set FAIRLINE_REDIS_URL, FAIRLINE_KAFKA and FAIRLINE_POSTGRES_DSN."
        )
    try:
        heard = read(history) if history else None
        finals = asyncio.run(
            read_finals(sale_id, redis_url=parts["redis"], kafka=parts["kafka"], postgres_dsn=parts["postgres"])
        )
        if keep is not None:
            save(finals, keep)
    except (HistoryError, FinalsError) as error:
        _give_up(str(error))
    except OSError as error:
        _give_up(f"{error.filename} cannot be opened: {error.strerror}." if error.filename else str(error))
    if heard is not None and heard.sale_id != sale_id:
        _give_up(f"This is the history of {heard.sale_id}, not of {sale_id}.")
    findings = check(heard, finals)
    if json:
        show_json(findings)
    else:
        for finding in findings:
            print(finding)
    if code := exit_code(findings):
        sys.exit(code)


def _give_up(why: str) -> NoReturn:
    print(why, file=sys.stderr)
    sys.exit(NOT_READ)
