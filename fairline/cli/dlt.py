"""``fairline dlt``: orders that Postgres refused, and other records that were given up. A job, made by hand."""

from contextlib import suppress
from typing import Annotated, Literal

import msgspec
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
            *((_visible(f"header {name}"), _visible(value)) for name, value in found.headers),
            ("key", None if found.key is None else _visible(found.key)),
            ("value", _readable(found.value, found.value_bytes)),
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
    return _visible(" ".join(text.split()))


def _readable(value: str, size: int | None) -> str:
    """JSON with its lines, text as it is, and all else escaped, with how many bytes it has."""
    with suppress(msgspec.DecodeError):
        msgspec.json.decode(value)
        return _visible(msgspec.json.format(value, indent=2))
    escaped, bytes_here = _visible(value), len(value.encode())
    # What was no UTF-8 has come as escapes, which are longer.
    as_it_is = escaped == value and size in (None, bytes_here)
    return value if as_it_is else f"{bytes_here if size is None else size} bytes, not all text: {escaped}"


def _visible(text: str) -> str:
    """With escapes for what a terminal would obey or hide."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)
