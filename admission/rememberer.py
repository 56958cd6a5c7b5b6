"""Writes archived sales down again on a Redis that lost them, and says of a Redis when it is whole (C2, D2).

What was left of an archived sale is lost with Redis like everything else, and no rebuild brings it back: nothing of it
can change, so it needs none. Postgres has it all. Until every sale of Postgres is there again, those that run at least
as halted ones, nobody can know whether a sale that Redis does not know is lost: ``Room.is_whole`` says so.

Archived sales are looked through once on each Redis, a page at a time; any number of copies may do it at once. One that
was made anew meanwhile is halted, so that it is rebuilt, ends and is archived again.
"""

from typing import Any, Final, cast

from redis.asyncio import Redis

from admission.rebuild import meta_of
from admission.records import Archived, Known, Records
from fairline.runtime import logs
from fairline.store.client import answering
from fairline.store.keys import SaleKeys
from fairline.store.replies import WordReply
from fairline.store.room import Room
from fairline.store.sales import Sales
from fairline.store.scripts import Script

log = logs.get(__name__)

WITHIN_S: Final = 3600  # a look that takes longer, or breaks off, counts for nothing


class Rememberer:
    """The rememberer of this process."""

    def __init__(self, redis: Redis, room: Room, records: Records) -> None:
        self._redis = redis
        self._room = room
        self._sales = Sales(room)
        self._records = records
        self._remember: Final = Script("admission", "remember", WordReply)

    async def begin(self, instance: str) -> str | None:
        """Before the sales that run are looked at: what to ``finish`` with; nothing on a Redis that is whole."""
        whole = await self._room.is_whole(as_of=instance)
        return None if whole else await self._room.look_begins(instance, within_s=WITHIN_S)

    async def finish(self, look: str) -> None:
        """Bring back what this Redis lacks of the archive. Every sale that is not archived must have been there.

        Raises ``UnavailableError``; whoever looks next begins anew, and finds there what came back by then.
        """
        brought = 0
        async for page in self._records.archived():
            pipe = cast(Any, self._redis).pipeline(transaction=False)
            for sale in page:
                pipe.hget(SaleKeys(sale.sale_id).meta, "version")
            with answering():
                there = await pipe.execute()
            for sale, version in zip(page, there, strict=True):
                if version is None:
                    brought += await self._write(sale)
                elif int(version) < sale.version and await self._sales.halt(sale.sale_id, "older than Postgres"):
                    log.critical("sale halted: it was archived, and is made anew", sale=sale.sale_id)
        if await self._room.look_ends(look):
            log.info("this Redis has every sale", archived_and_brought_back=brought)

    async def _write(self, archived: Archived) -> bool:
        fields, items = left_of(archived)
        with answering():
            reply = await self._remember(
                self._redis, SaleKeys(archived.sale_id), fields=fields, items=items, counts=archived.counts
            )
        return reply.word == "REMEMBERED"


def left_of(archived: Archived) -> tuple[dict[str, str], dict[str, int]]:
    """The fields of ``meta`` and ``items`` that an archived sale has. No I/O."""
    sale = archived.sale
    meta = meta_of(Known(archived.epoch, archived.version, sale), sale, archived.epoch)
    items = {
        f"{item.sku}:{name}": number
        for item in sale.items
        for name, number in {
            "stock": item.stock,
            "version": item.version,
            "high": item.high,
            "target": item.high,
            "next": item.high + 1,
            "unsold": item.high - len(item.withdrawn) - archived.sold.get(item.sku, 0),
        }.items()
    }
    return meta | {"state": "closed"}, items
