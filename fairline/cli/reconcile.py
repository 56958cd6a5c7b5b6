"""``fairline reconcile``: does Redis say the same of a sale as Postgres and Kafka do?"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from cyclopts import Parameter

from fairline.cli import CliError
from fairline.cli.client import running_stack
from fairline.cli.output import show_json, show_rows
from fairline.local.folder import DEFAULT

_NEEDED: Final = ("FAIRLINE_REDIS_URL", "FAIRLINE_KAFKA", "FAIRLINE_ORDER_SERVICE_URL")


class _Difference(msgspec.Struct):
    kind: str
    sku: str
    subject: str
    number: int
    redis: str
    postgres: str


class _Finding(msgspec.Struct):
    difference: _Difference
    cause: str
    remedy: str
    done: str


def reconcile(
    sale_id: str,
    /,
    *,
    repair: Annotated[bool, Parameter(negative=())] = False,
    data: Annotated[Path, Parameter(help="Folder of the local stack.", env_var="FAIRLINE_DATA")] = DEFAULT,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Compare a sale in Redis with Postgres and Kafka, while it goes on. Exit code 1 when a difference remains.

    The addresses are those of the stack that runs in the data folder; where none runs, FAIRLINE_REDIS_URL,
    FAIRLINE_KAFKA and FAIRLINE_ORDER_SERVICE_URL, as an admission process has them.

    Args:
        sale_id: The sale.
        repair: Mend what is safe to mend; what is not is said.
        data: Folder of the local stack.
        json: Print JSON.
    """
    command = [sys.executable, "-m", "admission.reconcile", sale_id, *(["--repair"] if repair else [])]
    environ = {**os.environ, **_addresses(running_stack(data), os.environ)}
    done = subprocess.run(command, env=environ, capture_output=True, check=False)
    if done.returncode != 0:
        raise CliError(done.stderr.decode(errors="replace").strip() or "The comparison ended without a word.")
    found = msgspec.json.decode(done.stdout, type=list[_Finding])
    if json:
        show_json(done.stdout)
    elif found:
        columns = ("kind", "sku", "subject", "redis", "postgres", "done", "how it may have come", "what there is to do")
        show_rows(columns, [_row(each) for each in found])
    else:
        print(f"{sale_id}: Redis, Kafka and Postgres agree.")
    left = sum(each.done not in {"mended", "gone"} for each in found)
    if left:
        raise CliError(f"{sale_id}: {left} of {len(found)} differences remain.")


def _addresses(stack: Mapping[str, Any] | None, environ: Mapping[str, str]) -> dict[str, str]:
    """The addresses of a running stack; else those of the environment, which must be there."""
    if stack is not None:
        values = (stack["redis_url"], stack["kafka"], stack["internal_urls"]["order_service"])
        return dict(zip(_NEEDED, values, strict=True))
    missing = [name for name in _NEEDED if name not in environ]
    if missing:
        raise CliError(f"No stack runs here, and the environment lacks {', '.join(missing)}.")
    return {}


def _row(each: _Finding) -> tuple[object, ...]:
    at = each.difference
    subject = f"{at.subject}, slot {at.number}" if at.number else at.subject
    return at.kind, at.sku, subject, at.redis, at.postgres, each.done, each.cause, each.remedy
