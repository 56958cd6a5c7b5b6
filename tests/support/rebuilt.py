"""A rebuild played by hand: what it does to the keys of a sale whose tickets only wait."""

from typing import Any

import msgspec

from fairline.store.tickets import UNSEEN
from tests.support.sale import SaleDriver


async def rebuilt(sale: SaleDriver, *lost: str, found: int | None = None, epoch: int = 1) -> None:
    """A new epoch: these tickets are lost, the others that wait are unseen; ``found`` is the counter that was left."""
    seq = int(await sale.raw.hget(sale.keys.meta, "seq"))
    for ticket_id in lost:
        record = await sale.record(ticket_id)
        at = sale.skus.index(record.sku)
        await sale.raw.hdel(sale.keys.tickets, ticket_id)
        await sale.raw.hdel(sale.keys.live, f"{record.sku}:{record.buyer}")
        await sale.raw.zrem(sale.keys.line[at], ticket_id)
        for field in ("joined", "WAITING"):
            await sale.raw.hincrby(sale.keys.counts, f"{record.sku}:{field}", -1)
    for line in sale.keys.line:
        for ticket_id in await sale.raw.zrange(line, 0, -1):
            record = msgspec.structs.replace(await sale.record(ticket_id.decode()), lease=UNSEEN)
            await sale.raw.hset(sale.keys.tickets, ticket_id, msgspec.msgpack.encode(record))
    fields: dict[str, Any] = {"epoch": epoch, "seq": 0, f"seq:{epoch - 1}": seq if found is None else found}
    await sale.raw.hset(sale.keys.meta, mapping=fields)
    await sale.raw.hset(
        sale.keys.items, mapping={f"{sku}:{name}": 0 for sku in sale.skus for name in ("number", "served")}
    )
