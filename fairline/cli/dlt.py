"""``fairline dlt``: orders that Postgres refused, and other records that were given up. A job, made by hand."""

from typing import Annotated, Literal

from cyclopts import App, Parameter

from fairline.cli import CliError
from fairline.cli.client import DeadLetterRow, LetterAct, Operator, Reply
from fairline.cli.output import ASKING, Asking, show_json, show_pairs, show_rows

dlt = App(name="dlt", help="List, show, replay, readmit and discard dead letters.")
Ids = Annotated[list[str], Parameter(help="Ids as the list names them.", negative=())]
Reason = Annotated[str, Parameter(help="Why; kept in the audit log.")]
State = Literal["open", "replayed", "readmitted", "discarded"]


@dlt.command(name="list")
def list_letters(*, sale: str | None = None, state: State | None = "open", asking: Asking = ASKING) -> None:
    """List dead letters: the open ones, unless told otherwise.

    Args:
        sale: Only those of this sale.
        state: Only those in this state.
        asking: Where to ask, and how to print.
    """
    rows = asking.ask(lambda operator: operator.dead_letters(sale_id=sale, state=state))
    if asking.json:
        show_json(rows)
        return
    show_rows(
        ("id", "state", "verdict", "sale", "ticket", "tries", "reason"),
        [(row.id, row.state, row.verdict, row.sale_id, row.ticket_id, row.attempts, _line(row.reason)) for row in rows],
    )


@dlt.command
def show(letter_id: str, /, *, asking: Asking = ASKING) -> None:
    """Show a dead letter with the record it holds."""
    reply = asking.ask(lambda operator: operator.dead_letter(letter_id))
    if asking.json:
        show_json(reply.raw)
        return
    found = reply.value
    show_pairs(
        [
            *_pairs(found),
            ("topic", found.topic),
            *((f"header {name}", value) for name, value in found.headers),
            ("key", found.key),
            ("value", found.value),
        ]
    )


@dlt.command
def replay(letter_ids: Ids, /, *, reason: Reason = "", asking: Asking = ASKING) -> None:
    """Send records again that have no verdict yet, as they were; of a confirmed order nothing is left to do."""
    _act("replay", letter_ids, reason, asking)


@dlt.command
def readmit(letter_ids: Ids, /, *, reason: Reason = "", asking: Asking = ASKING) -> None:
    """Give the buyers of failed orders a new ticket at their old place; the old one stays RELEASED."""
    _act("readmit", letter_ids, reason, asking)


@dlt.command
def discard(letter_ids: Ids, /, *, reason: Reason = "", asking: Asking = ASKING) -> None:
    """Close dead letters that nobody needs."""
    _act("discard", letter_ids, reason, asking)


def _act(act: LetterAct, letter_ids: list[str], reason: str, asking: Asking) -> None:
    """One after the other; the first refusal ends it and names its letter; what was done before it is printed."""

    async def each(operator: Operator) -> None:
        for letter_id in letter_ids:
            try:
                done = await operator.handle(letter_id, act, reason)
            except CliError as error:
                raise CliError(f"{letter_id}: {error}") from None
            _show(done, asking)

    asking.ask(each)


def _show(reply: Reply[DeadLetterRow], asking: Asking) -> None:
    if asking.json:
        show_json(reply.raw)
        return
    row = reply.value
    now = f"is {row.state}" if row.readmitted_as is None else f"is {row.state} as ticket {row.readmitted_as}"
    print(f"{row.id} {now}.")


def _pairs(row: DeadLetterRow) -> list[tuple[str, object]]:
    return [
        ("dead letter", row.id),
        ("state", row.state),
        ("readmitted as", row.readmitted_as),
        ("kind", row.kind),
        ("sale", row.sale_id),
        ("ticket", row.ticket_id),
        ("verdict", row.verdict),
        ("given up at", row.given_up_at),
        ("after tries", row.attempts),
        ("because", _line(row.reason)),
    ]


def _line(text: str) -> str:
    return " ".join(text.split())
