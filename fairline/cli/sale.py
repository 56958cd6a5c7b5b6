"""``fairline sale``, ``rate``, ``stock`` and ``stats``: what operators do to sales."""

import contextlib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from fairline.cli import CliError
from fairline.cli.client import UNREADABLE, Action, Operator, Reply, Sale
from fairline.cli.output import ASKING, Asking, show_json, show_pairs, show_rows
from fairline.sale import SaleDefinition

sale = App(name="sale", help="Create, show, open, pause, resume and end sales.")
Reason = Annotated[str, Parameter(help="Why; kept in the history of the sale.")]
_MOST_DIGITS = 18  # far above every stock; Python reads no number of thousands of digits


@sale.command
def create(
    file: Path | None = None,
    /,
    *,
    sale_id: Annotated[str | None, Parameter(name="--id")] = None,
    name: str | None = None,
    item: Annotated[list[str] | None, Parameter(negative=())] = None,
    limit: int | None = None,
    rate: float | None = None,
    capacity: int | None = None,
    opens_at: str | None = None,
    ends_at: str | None = None,
    message: str | None = None,
    when_sold_out: Literal["close_line", "keep_line"] | None = None,
    validator: Literal["accept", "simulated", "http"] | None = None,
    decline_share: float | None = None,
    validator_url: str | None = None,
    asking: Asking = ASKING,
) -> None:
    """Create a sale, in state draft, from a JSON file, from flags, or from a file with flags over it.

    Args:
        file: The sale as JSON, in the words of the HTTP API.
        sale_id: 1 to 64 lower-case letters, digits and hyphens.
        name: What people read.
        item: SKU=STOCK or SKU=STOCK:NAME; may be given again.
        limit: Units a buyer may have of one sku.
        rate: Tickets admitted a second; unlimited when left out.
        capacity: Tickets admitted at a time; unlimited when left out.
        opens_at: When it opens by itself, in RFC 3339, for example 2027-01-31T10:00:00+01:00.
        ends_at: When it ends by itself, for good.
        message: Shown to everybody who waits.
        when_sold_out: Whether the line is sent home when everything is sold.
        validator: Who checks an admitted buyer; accept, nobody, when left out.
        decline_share: Share that the simulated validator declines, 0 to 1.
        validator_url: Endpoint of the http validator.
        asking: Where to ask, and how to print.
    """
    given: dict[str, Any] = {
        "sale_id": sale_id,
        "name": name,
        "items": [_item(text) for text in item] if item else None,
        "per_buyer_limit": limit,
        "rate_per_s": rate,
        "capacity": capacity,
        "opens_at": opens_at,
        "ends_at": ends_at,
        "message": message,
        "when_sold_out": when_sold_out,
        "validator": _present(kind=validator, decline_share=decline_share, url=validator_url) or None,
    }
    definition = _definition({**_file(file), **_present(**given)})
    _show_sale(asking.ask(lambda operator: operator.create(definition)), asking)


@sale.command
def show(sale_id: str, /, *, asking: Asking = ASKING) -> None:
    """Show a sale as it stands."""
    _show_sale(asking.ask(lambda operator: operator.sale(sale_id)), asking)


@sale.command(name="list")
def list_sales(*, asking: Asking = ASKING) -> None:
    """List all sales."""
    rows = asking.ask(lambda operator: operator.sales())
    if asking.json:
        show_json(rows)
    else:
        show_rows(
            ("sale", "state", "waiting", "name"), [(row.sale_id, row.state, row.waiting, row.name) for row in rows]
        )


@sale.command(name="open")
def open_sale(sale_id: str, /, *, reason: Reason = "", asking: Asking = ASKING) -> None:
    """Open a sale; waits until Postgres knows it."""
    _act(sale_id, "open", reason, asking)


@sale.command
def pause(sale_id: str, /, *, reason: Reason = "", asking: Asking = ASKING) -> None:
    """Admit nobody until it is resumed; joins and places are kept."""
    _act(sale_id, "pause", reason, asking)


@sale.command
def resume(sale_id: str, /, *, reason: Reason = "", asking: Asking = ASKING) -> None:
    """Admit again."""
    _act(sale_id, "resume", reason, asking)


@sale.command
def end(sale_id: str, /, *, reason: Reason = "", asking: Asking = ASKING) -> None:
    """End a sale for good: those who wait are declined, those admitted may finish."""
    _act(sale_id, "end", reason, asking)


def rate(sale_id: str, per_second: str, /, *, reason: Reason = "", asking: Asking = ASKING) -> None:
    """Set how many tickets are admitted a second; acts within a second.

    Args:
        sale_id: The sale.
        per_second: A number above 0, or none for no limit.
        reason: Why; kept in the history of the sale.
        asking: Where to ask, and how to print.
    """
    wanted = None if per_second == "none" else _number(per_second)
    _show_sale(asking.ask(lambda operator: operator.change(sale_id, rate_per_s=wanted, reason=reason)), asking)


def stock(
    sale_id: str,
    sku: str,
    units: int,
    /,
    *,
    version: int | None = None,
    reason: Reason = "",
    asking: Asking = ASKING,
) -> None:
    """Set the stock of a sku, absolutely; comes back when Postgres knows it.

    Args:
        sale_id: The sale.
        sku: One of its items.
        units: How many units there shall be in all, sold ones included.
        version: Above that of the last change; the next one when left out. The same again changes nothing.
        reason: Why; kept in the history of the sale.
        asking: Where to ask, and how to print.
    """

    async def change(operator: Operator) -> Any:
        of = await _next_version(operator, sale_id, sku) if version is None else version
        return await operator.stock(sale_id, sku, stock=units, version=of, reason=reason)

    reply = asking.ask(change)
    if asking.json:
        show_json(reply.raw)
    else:
        print(f"{sku} of {sale_id} has {reply.value.stock} units (version {reply.value.version}).")


def stats(sale_id: str, /, *, asking: Asking = ASKING) -> None:
    """Count the tickets of a sale by state, at one instant."""
    reply = asking.ask(lambda operator: operator.stats(sale_id))
    if asking.json:
        show_json(reply.raw)
        return
    plain = [(name, value) for name, value in reply.value.items() if not isinstance(value, dict | list)]
    refused = [(f"refused: {code}", count) for code, count in reply.value.get("refused", {}).items()]
    show_pairs([*plain, *refused])


def _act(sale_id: str, action: Action, reason: str, asking: Asking) -> None:
    _show_sale(asking.ask(lambda operator: operator.act(sale_id, action, reason)), asking)


async def _next_version(operator: Operator, sale_id: str, sku: str) -> int:
    """Two who do this at once get the same number, and the second is refused: nobody's change is lost."""
    for each in (await operator.sale(sale_id)).value.items:
        if each.sku == sku:
            return each.version + 1
    raise CliError(f"{sale_id} has no item {sku}: fairline sale show {sale_id} lists them.")


def _show_sale(reply: Reply[Sale], asking: Asking) -> None:
    if asking.json:
        show_json(reply.raw)
        return
    found = reply.value
    show_pairs(
        [
            ("sale", found.sale_id),
            ("name", found.name),
            ("state", found.state),
            ("admits", _pace(found)),
            ("per buyer", found.per_buyer_limit),
            ("opens at", found.opens_at),
            ("ends at", found.ends_at),
            ("message", found.message),
            ("validator", found.validator.kind),
            ("acknowledged", None if found.acknowledged else "not yet: the last change is on its way to Postgres"),
        ]
    )
    print()
    show_rows(
        ("item", "stock", "free", "waiting", "outlook", "version", "name"),
        [
            (each.sku, each.stock, each.free, each.waiting, each.outlook, each.version, each.name)
            for each in found.items
        ],
    )


def _pace(found: Sale) -> str:
    rate_per_s = "as fast as it can" if found.rate_per_s is None else f"{found.rate_per_s:g} a second"
    return rate_per_s if found.capacity is None else f"{rate_per_s}, {found.capacity} at a time"


def _item(text: str) -> dict[str, Any]:
    sku, _, rest = text.partition("=")
    units, _, name = rest.partition(":")
    if not sku or not units.isdecimal() or len(units) > _MOST_DIGITS:
        raise CliError(f"--item {text!r} wants SKU=STOCK or SKU=STOCK:NAME, for example --item teapot=100:Teapot.")
    return {"sku": sku, "name": name or sku, "stock": int(units)}


def _file(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}.") from None
    except UNREADABLE as error:
        raise CliError(f"{file} is not a sale in JSON: {error}.") from None


def _definition(given: dict[str, Any]) -> SaleDefinition:
    """Checked here already, with the very type the gateway checks with."""
    try:
        definition = msgspec.convert(given, SaleDefinition)
    except msgspec.ValidationError as error:
        raise CliError(f"This is not a sale: {error}.") from None
    if fault := definition.fault():
        raise CliError(f"This is not a sale: {fault}.")
    return definition


def _number(text: str) -> float:
    """A rate; NaN and infinity would travel as null, which means no limit."""
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < float("inf"):
            return number
    raise CliError(f"A rate is a number of tickets a second above 0, or none, not {text!r}: fairline sale pause stops.")


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
