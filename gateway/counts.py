"""Statistics as operators read them, from the flat counts of ``stats.lua``: one instant, everything adds up (C1).

Fields are ``SKU:STATE``, ``SKU:joined``, ``SKU:asked``, ``SKU:admitted_total``, ``SKU:DECLINED:reason`` and
``SKU:refused:code``; refusals whose sku is unknown stand under the empty sku, and so in the totals alone.
"""

from collections import Counter
from typing import Any, Final

from fairline import clock
from fairline.states import SaleState, State
from fairline.store.room import StatsReply
from gateway.schemas import ItemCounts, SaleCounts

_TOTALS: Final = ("joined", "asked", "admitted_total")
_CODES: Final = {"key_reused": "idempotency_key_reused"}  # join.lua's word -> the code its client read


class _Sums:
    """The counts of one sku, or of all."""

    def __init__(self) -> None:
        self.plain: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.declined: Counter[str] = Counter()

    def add(self, field: str, number: int) -> None:
        kind, _, detail = field.partition(":")
        if kind == "refused":
            self.refused[_CODES.get(detail, detail)] += number
        elif detail:
            self.declined[detail] += number
        else:
            self.plain[kind] += number

    def fields(self) -> dict[str, Any]:
        return {
            **{total: self.plain[total] for total in _TOTALS},
            **{state.lower(): self.plain[state] for state in State},
            "refused": dict(sorted(self.refused.items())),
            "declined_by_reason": dict(sorted(self.declined.items())),
        }


def counts_of(sale_id: str, named: tuple[tuple[str, str], ...], reply: StatsReply) -> SaleCounts:
    """The answer of ``GET /admin/sales/{sale_id}/stats``."""
    total = _Sums()
    items = {sku: _Sums() for sku, _ in named}
    flat = iter(reply.counts)
    for name, text in zip(flat, flat, strict=True):
        sku, _, field = name.partition(":")
        total.add(field, int(text))
        if sku in items:
            items[sku].add(field, int(text))
    return SaleCounts(
        sale_id=sale_id,
        state=SaleState(reply.state),
        in_flight=reply.in_flight,
        outbox=reply.outbox,
        items=tuple(
            ItemCounts(sku=sku, stock=stock, free=free, high=high, withdrawn=withdrawn, **items[sku].fields())
            for (sku, _), (stock, free, high, withdrawn) in zip(named, reply.stocks, strict=True)
        ),
        server_time=clock.at(reply.now_ms),
        **total.fields(),
    )
