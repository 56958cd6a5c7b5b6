"""``fairline reconcile``: does Redis say the same of a sale as Postgres and Kafka do?"""

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from fairline.cli import CliError
from fairline.cli.client import said_by_admission
from fairline.cli.output import show_json, show_rows
from fairline.local.folder import DEFAULT


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
    said = said_by_admission(
        data,
        "admission.reconcile",
        sale_id,
        *(["--repair"] if repair else []),
        otherwise="The comparison ended without a word.",
    )
    found = msgspec.json.decode(said, type=list[_Finding])
    if json:
        show_json(said)
    elif found:
        columns = ("kind", "sku", "subject", "redis", "postgres", "done", "how it may have come", "what there is to do")
        show_rows(columns, [_row(each) for each in found])
    else:
        print(f"{sale_id}: Redis, Kafka and Postgres agree.")
    left = sum(each.done not in {"mended", "gone"} for each in found)
    if left:
        raise CliError(f"{sale_id}: {left} of {len(found)} differences remain.")


def _row(each: _Finding) -> tuple[object, ...]:
    at = each.difference
    subject = f"{at.subject}, slot {at.number}" if at.number else at.subject
    return at.kind, at.sku, subject, at.redis, at.postgres, each.done, each.cause, each.remedy
