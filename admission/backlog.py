"""How fast a sale may admit while what it has admitted is not yet settled. Pure.

What has to become durable goes through the outbox, Kafka, order_service and Postgres, and back as a verdict. Whatever
of that is slow or away, the same shows in Redis: orders without a verdict grow in number and age. So nobody is asked;
every controller reads the same signals with each admit call, and two controllers decide alike.

The share of its pace that a sale may use goes down in proportion, from all of it to ``LEAST``, and up again the same
way: no threshold at which it would swing, and no stop for good, as the signals change without admission's help.
"""

from typing import Final, NamedTuple

import msgspec

LEAST: Final = 0.05
AGE_RANGE: Final = 5  # slowest at so many times the age at which it begins to slow
FILL_RANGE: Final = 0.5  # it begins to slow at this share of a limit
# This many orders may be older than the age that counts: one that nobody can write must not hold up the sale.
STRAGGLERS: Final = 20


class Backlog(msgspec.Struct, array_like=True, frozen=True):
    """What is not settled, as ``admit.lua`` found it. ``age_ms``: of the oldest order but for the stragglers."""

    outbox: int = 0
    orders: int = 0
    age_ms: int = 0


class Speed(NamedTuple):
    """``share`` of the pace, from ``LEAST`` to 1; ``because`` says why it is less than 1, and is empty otherwise."""

    share: float
    because: str


FULL: Final = Speed(1.0, "")


def speed_of(backlog: Backlog, *, behind_ms: int, outbox_limit: int, orders_limit: int) -> Speed:
    """The slowest that any of the signals asks for.

    ``outbox``: facts wait for Kafka; ``orders``: too many orders wait for their verdict; ``old_orders``: they wait too
    long.
    """
    share, because = min(
        (_falling(backlog.age_ms, behind_ms, AGE_RANGE * behind_ms), _slow_part(backlog)),
        (_falling(backlog.outbox, FILL_RANGE * outbox_limit, outbox_limit), "outbox"),
        (_falling(backlog.orders, FILL_RANGE * orders_limit, orders_limit), "orders"),
    )
    share = round(max(LEAST, share), 2)
    return FULL if share == 1 else Speed(share, because)


def _slow_part(backlog: Backlog) -> str:
    """Old orders are where most of them are: still in the outbox, or behind it."""
    return "outbox" if 2 * backlog.outbox > backlog.orders else "old_orders"


def _falling(value: float, first: float, last: float) -> float:
    """1 up to the first, 0 from the last on, straight in between."""
    return min(1.0, max(0.0, (last - value) / (last - first)))
