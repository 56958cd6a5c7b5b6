"""Statistics as operators read them, from ``stats.lua``: one instant, everything adds up (C1)."""

from typing import cast

from fairline import clock
from fairline.counts import sums_of
from fairline.states import SaleState
from fairline.store.replies import StatsReply
from gateway.schemas import ItemCounts, SaleCounts, Slow


def counts_of(sale_id: str, named: tuple[tuple[str, str], ...], reply: StatsReply) -> SaleCounts:
    """The answer of ``GET /admin/sales/{sale_id}/stats``."""
    flat = iter(reply.counts)
    counts = {name: int(number) for name, number in zip(flat, flat, strict=True)}
    total, items = sums_of(counts, (sku for sku, _ in named))
    return SaleCounts(
        sale_id=sale_id,
        state=SaleState(reply.state),
        in_flight=reply.in_flight,
        outbox=reply.outbox,
        admission_share=reply.share,
        slow_because=cast("Slow", reply.because) if reply.because else None,
        items=tuple(
            ItemCounts(sku=sku, stock=stock, free=free, high=high, withdrawn=withdrawn, **items[sku].fields())
            for (sku, _), (stock, free, high, withdrawn) in zip(named, reply.stocks, strict=True)
        ),
        server_time=clock.at(reply.now_ms),
        **total.fields(),
    )
