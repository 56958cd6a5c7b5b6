"""A trace in words: what was done, and what it changed for whom."""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.model.basis import Step
from tests.model.world import Applied, Change, Order, Redis, Ticket, Verdict, World


def told(first: World, trace: Sequence[Step]) -> Iterator[str]:
    """A line a step."""
    before = first
    for number, step in enumerate(trace, 1):
        what = ", ".join(_of(arg) for arg in step.args)
        changes = "; ".join(_changes(before.redis, step.world.redis))
        yield f"{number:3d}. {step.name}{': ' if what else ''}{what}{'  ->  ' if changes else ''}{changes}"
        before = step.world


def _of(arg: Any) -> str:
    if isinstance(arg, Order):
        return f"order of t{arg.ticket}, units {_list(arg.units)}, epoch {arg.epoch}"
    if isinstance(arg, Verdict):
        return f"t{arg.ticket} {arg.reason or 'confirmed'}, units {_list(arg.units)}"
    if isinstance(arg, Change):
        return f"version {arg.version} of the sale, {arg.state}"
    if isinstance(arg, Applied):
        return f"version {arg.version} is known"
    return str(arg)


def _list(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers)) or "none"


def _changes(before: Redis, after: Redis) -> Iterator[str]:
    for at, ticket in enumerate(after.tickets):
        if ticket != before.tickets[at]:
            yield f"t{at} {_ticket(ticket)}"
    for sku, item in enumerate(after.items):
        if item.free_units != before.items[sku].free_units:
            yield f"free of sku {sku}: {_list(sorted(item.free_units))}"
    if (after.state, after.epoch) != (before.state, before.epoch):
        yield f"the sale is {after.state}, epoch {after.epoch}"


def _ticket(ticket: Ticket | None) -> str:
    if ticket is None:
        return "unknown"
    units = f", units {_list(ticket.units)}" if ticket.units else ""
    lease = f", lease {ticket.lease}" if ticket.lease else ""
    return f"{ticket.state}{units}{lease}{'' if ticket.seen else ', not seen'}"
