"""Sales as their operators handle them: create, change, set stock, read back.

Every change is a script that also puts the fact of it into the outbox, from where Postgres learns it; ``acked`` is the
last version that Postgres is known to have. A change that is sent twice is made once.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from redis.asyncio import Redis

from fairline.clock import at, to_ms
from fairline.errors import FencedError
from fairline.sale import Item, SaleDefinition, Validator
from fairline.states import SaleState
from fairline.store import keys as names
from fairline.store.client import answering
from fairline.store.keys import SaleKeys
from fairline.store.replies import ChangeReply, LookReply, NumberReply
from fairline.store.room import Room
from fairline.store.scripts import Script

Action = Literal["open", "pause", "resume", "end"]
Due = Literal["opens_at_ms", "ends_at_ms"]

_encode: Final = msgspec.json.Encoder().encode


class SaleView(msgspec.Struct, frozen=True):
    """A sale as it stands in Redis; ``items`` of the definition carry the stock that was last asked for."""

    definition: SaleDefinition
    state: SaleState
    epoch: int
    version: int
    acked: int
    arrivals: int
    now_ms: int  # by Redis's clock, when it stood so
    waiting: int
    servable: int  # of those who wait, for whom units are free while the sale is open


def fields_of(definition: SaleDefinition) -> dict[str, str]:
    """The definition as the fields of the ``meta`` hash, all text; an absent value is the empty text."""
    return {
        "sale_id": definition.sale_id,
        "name": definition.name,
        "skus": _encode([(item.sku, item.name) for item in definition.items]).decode(),
        "per_buyer_limit": str(definition.per_buyer_limit),
        "rate": "" if definition.rate_per_s is None else repr(float(definition.rate_per_s)),
        "capacity": "" if definition.capacity is None else str(definition.capacity),
        "opens_at_ms": "" if definition.opens_at is None else str(to_ms(definition.opens_at)),
        "ends_at_ms": "" if definition.ends_at is None else str(to_ms(definition.ends_at)),
        "message": definition.message or "",
        "when_sold_out": definition.when_sold_out,
        "validator": _encode(definition.validator).decode(),
    }


def view_of(seen: LookReply, skus: tuple[tuple[str, str], ...]) -> SaleView:
    """The sale of a ``look`` and its (sku, name) pairs, in the same order."""
    meta = seen.meta
    definition = SaleDefinition(
        sale_id=meta["sale_id"],
        name=meta["name"],
        items=tuple(
            Item(sku=sku, name=name, stock=row.stock) for (sku, name), row in zip(skus, seen.rows, strict=True)
        ),
        per_buyer_limit=int(meta["per_buyer_limit"]),
        rate_per_s=float(meta["rate"]) if meta["rate"] else None,
        capacity=int(meta["capacity"]) if meta["capacity"] else None,
        opens_at=at(int(meta["opens_at_ms"])) if meta["opens_at_ms"] else None,
        ends_at=at(int(meta["ends_at_ms"])) if meta["ends_at_ms"] else None,
        message=meta["message"] or None,
        when_sold_out="keep_line" if meta["when_sold_out"] == "keep_line" else "close_line",
        validator=msgspec.json.decode(meta["validator"], type=Validator),
    )
    state = SaleState(meta["state"])
    return SaleView(
        definition=definition,
        state=state,
        epoch=int(meta["epoch"]),
        version=int(meta["version"]),
        acked=int(meta["acked"]),
        arrivals=int(meta["seq"]),
        now_ms=seen.now_ms,
        waiting=sum(row.waiting for row in seen.rows),
        servable=sum(min(row.waiting, row.free) for row in seen.rows) if state is SaleState.OPEN else 0,
    )


class Sales:
    """What operators do to sales, on one Redis. Raises ``FencedError`` and ``UnavailableError`` like ``Room``."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._create = Script("fairline.store", "sale_create", NumberReply)
        self._change = Script("fairline.store", "sale_change", ChangeReply)
        self._stock = Script("fairline.store", "stock", NumberReply)
        self._halt = Script("fairline.store", "halt", NumberReply)
        self._adopt = Script("fairline.store", "adopt", NumberReply)

    @property
    def _redis(self) -> Redis:
        return self._room.redis

    async def create(self, definition: SaleDefinition) -> str:
        """CREATED (in state draft) or EXISTS. Registered first, so that somebody serves what a crash left (O4)."""
        skus = tuple(item.sku for item in definition.items)
        with answering():
            await self._redis.sadd(names.SALES, definition.sale_id)
            reply = await self._create(
                self._redis,
                SaleKeys(definition.sale_id, skus),
                fields=fields_of(definition),
                stocks=[item.stock for item in definition.items],
                skus=skus,
            )
        return reply.word

    async def get(self, sale_id: str) -> SaleView | None:
        """The sale as it stands; nothing for one that Redis does not know."""
        seen = await self._room.look(sale_id)
        named = await self._room.named_skus(sale_id)
        return None if seen is None or named is None else view_of(seen, named)

    async def change(self, sale_id: str, action: Action, reason: str = "") -> ChangeReply | None:
        """CHANGED, SAME, ILLEGAL or (to open) NOT_ACKNOWLEDGED, with the state and version of the sale now."""
        return await self._changed(sale_id, action, {}, reason)

    async def change_when_due(self, sale_id: str, action: Action, due: Due) -> ChangeReply | None:
        """The same, or NOT_DUE unless that time of the sale has come by Redis's clock."""
        return await self._changed(sale_id, action, {}, due.removesuffix("_ms"), due)

    async def patch(self, sale_id: str, fields: Mapping[str, str], reason: str = "") -> ChangeReply | None:
        """Set fields of ``meta`` (as ``fields_of`` spells them): CHANGED, SAME, or ILLEGAL after the end."""
        return await self._changed(sale_id, "patch", fields, reason)

    async def _changed(
        self, sale_id: str, action: str, fields: Mapping[str, str], reason: str, due: str = ""
    ) -> ChangeReply | None:
        skus = await self._room.known_skus(sale_id)
        if skus is None:
            return None
        with answering():
            return await self._change(
                self._redis,
                SaleKeys(sale_id, skus),
                action=action,
                fields=dict(fields),
                reason=reason,
                due=due,
                skus=skus,
            )

    async def set_stock(self, sale_id: str, sku: str, *, stock: int, version: int, reason: str) -> NumberReply | None:
        """CHANGED or SAME with the sale's version to wait for; STALE, TOO_LOW or ENDED with the number in the way.

        Nothing where the sale or the sku is unknown. Absolute, so the same call twice is the same as once (U3).
        """
        skus = await self._room.known_skus(sale_id)
        if skus is None or sku not in skus:
            return None
        with answering():
            return await self._stock(
                self._redis,
                SaleKeys(sale_id, skus),
                at=skus.index(sku) + 1,
                stock=stock,
                version=version,
                reason=reason,
                skus=skus,
            )

    async def acked(self, sale_id: str) -> int:
        """The last version of the sale that Postgres is known to have; 0 for none."""
        with answering():
            text = await self._redis.hget(SaleKeys(sale_id).meta, "acked")
        return int(text or 0)

    async def halt(self, sale_id: str, because: str) -> bool:
        """Stop a sale until it has been rebuilt; whether it ran before. A second call changes nothing."""
        try:
            with answering():
                await self._halt(self._redis, SaleKeys(sale_id), because=because)
        except FencedError:
            return False
        return True

    async def retire(self, sale_id: str) -> None:
        """Serve an archived sale no more. A second call finds nothing."""
        with answering():
            await self._redis.srem(names.SALES, sale_id)

    async def adopt_one(self, sale_id: str, was: str) -> bool:
        """Fence this sale to this Redis if it was fenced to ``was``; whether it was. Only if nothing can be lost."""
        with answering():
            reply = await self._adopt(self._redis, SaleKeys(sale_id), was=was)
        return reply.word == "ADOPTED"

    async def adopt(self, was: str) -> list[str]:
        """Fence to this Redis every sale that was fenced to the one called ``was``; the ids of those.

        Only after a stop that is known to have lost nothing; see ``fairline.store.fence``.
        """
        adopted = [sale_id for sale_id in await self._room.sale_ids() if await self.adopt_one(sale_id, was)]
        if await self._room.is_whole(as_of=was):
            await self._room.say_whole(await self._room.instance())
        return adopted
