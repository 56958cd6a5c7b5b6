"""Reads what Redis, Kafka and Postgres hold of one sale, as an outsider: no service is asked, and nothing is written.

The three are read one after the other, Postgres last because it is what the others wait for: only at rest is it one
instant.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from fairline import events
from fairline.states import SaleState, State
from fairline.store.client import Redis, connect
from fairline.store.keys import SaleKeys
from fairline.store.scripts import TicketRecord
from fairline.stream.connection import start, stop
from loadtest.finals import Finals, FinalsError, Item, KafkaSide, Letter, PostgresSide, RedisSide, Row, Ticket, Unit

WITHIN_S: Final = 10.0  # each answer of a server
PAGE: Final = 500
_record: Final = msgspec.msgpack.Decoder(TicketRecord).decode
_slots: Final = msgspec.msgpack.Decoder(tuple[int, ...]).decode
_skus: Final = msgspec.json.Decoder(tuple[tuple[str, str], ...]).decode


async def read(sale_id: str, *, redis_url: str, kafka: str, postgres_dsn: str) -> Finals:
    """Read everything of a sale; writes nothing. A few seconds for 100,000 tickets, and a record of each in memory.

    Kafka is read from its beginning, other sales' facts are passed over. Raises ``FinalsError``.
    """
    try:
        on_redis = await _redis(sale_id, redis_url)
        on_kafka = await _kafka(sale_id, kafka, set(on_redis.tickets))
        on_postgres = await _postgres(sale_id, postgres_dsn)
    except RedisError as error:
        raise FinalsError(f"Redis cannot be read ({error}): is it up?") from error
    except KafkaError as error:
        raise FinalsError(f"Kafka cannot be read ({error!r}): is it up, and are its topics there?") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise FinalsError(f"Postgres cannot be read ({error}): is it up, and is its schema there?") from error
    except (OSError, TimeoutError) as error:
        raise FinalsError(f"a server cannot be reached ({error or type(error).__name__}): is it up?") from error
    except (ValueError, LookupError, msgspec.MsgspecError) as error:  # must not end the command as a violation does
        raise FinalsError(f"an address or what is there cannot be understood: {error!r}") from error
    return Finals(sale_id=sale_id, redis=on_redis, kafka=on_kafka, postgres=on_postgres)


async def _redis(sale_id: str, url: str) -> RedisSide:
    redis = connect(url, name="fairline-verify", timeout_s=WITHIN_S)
    try:
        fields: Any = await redis.hgetall(SaleKeys(sale_id).meta)
        meta = {name.decode(): text.decode() for name, text in fields.items()}
        if not meta:
            raise FinalsError(f"Redis knows no sale {sale_id!r}: is that its id, and this its Redis?")
        keys = SaleKeys(sale_id, [sku for sku, _ in _skus(meta["skus"])])
        replication = await redis.info("replication")
        numbers, counts = _numbers(await redis.hgetall(keys.items)), _numbers(await redis.hgetall(keys.counts))
        items = {sku: await _item(redis, keys, at, numbers, counts) for at, sku in enumerate(keys.skus)}
        tickets = {}
        async for ticket_id, packed in redis.hscan_iter(keys.tickets, count=PAGE):
            tickets[ticket_id.decode()] = _ticket(_record(packed))
        if meta["state"] == SaleState.CLOSED and counts and not tickets:
            raise FinalsError(f"the tickets of {sale_id} have been archived: there is nothing left to compare")
        held: Any = await redis.hgetall(keys.held)
        aliases: Any = await redis.hgetall(keys.aliases)
        return RedisSide(
            state=meta["state"],
            epoch=int(meta["epoch"]),
            halted=meta["fence"] != replication["master_replid"],
            per_buyer_limit=int(meta["per_buyer_limit"]),
            rate_per_s=float(meta["rate"]) if meta["rate"] else None,
            capacity=int(meta["capacity"]) if meta["capacity"] else None,
            when_sold_out=meta["when_sold_out"],
            items=items,
            tickets=tickets,
            aliases={lost.decode(): answers.decode() for lost, answers in aliases.items()},
            held={who.decode(): _slots(packed) for who, packed in held.items()},
            leases=_texts(await redis.zrange(keys.leases, 0, -1)),
            reserved=_texts(await redis.zrange(keys.reserved, 0, -1)),
            outbox=await _outbox(redis, keys.outbox),
        )
    finally:
        await redis.aclose()


async def _outbox(redis: Redis, key: str) -> int:
    """Facts on their way to Kafka, at most ``PAGE``. Counts are posted again and again, also when all is quiet."""
    entries: Any = await redis.xrange(key, count=PAGE)
    return sum(not _is_a_count(fields[b"fact"]) for _, fields in entries)


def _is_a_count(packed: bytes) -> bool:
    try:
        return isinstance(events.from_outbox(packed), events.SaleCounted)
    except (msgspec.MsgspecError, ValueError):
        return False  # what cannot be read does not leave either


async def _item(redis: Redis, keys: SaleKeys, at: int, numbers: dict[str, int], counts: dict[str, int]) -> Item:
    sku = keys.skus[at]
    returned: Any = await redis.zrange(keys.returned[at], 0, -1)
    return Item(
        stock=numbers[f"{sku}:stock"],
        high=numbers[f"{sku}:high"],
        target=numbers[f"{sku}:target"],
        first_fresh=numbers[f"{sku}:next"],
        returned=tuple(int(serial) for serial in returned),
        withdrawn=tuple(sorted(int(serial) for serial in await redis.smembers(keys.withdrawn[at]))),
        counts={name.partition(":")[2]: n for name, n in counts.items() if name.partition(":")[0] == sku},
        line=_texts(await redis.zrange(keys.line[at], 0, -1)),
    )


def _ticket(record: TicketRecord) -> Ticket:
    return Ticket(
        state=record.state,
        sku=record.sku,
        buyer_id=record.buyer,
        quantity=record.quantity,
        arrival=record.arrival,
        number=record.number,
        tries=record.tries,
        sends=record.sends,
        back=bool(record.back),
        unseen=record.state == State.WAITING and record.lease == "unseen",
        units=record.units,
        slots=record.slots,
        reason=record.reason,
        joined_ms=record.joined_ms,
        changed_ms=record.changed_ms,
    )


async def _kafka(sale_id: str, bootstrap: str, ours: set[str]) -> KafkaSide:
    """From the beginning to where each partition ended when this began; a member of no group, so nobody notices."""
    found = _Found(sale_id, ours)
    consumer = AIOKafkaConsumer(
        *(f"{topic}{suffix}" for topic in events.TOPICS for suffix in ("", events.DEAD_LETTERS)),
        bootstrap_servers=bootstrap,
        client_id="fairline-verify",
        group_id=None,
        auto_offset_reset="earliest",
        request_timeout_ms=round(WITHIN_S * 1000),
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            await start(consumer)
            ends = await consumer.end_offsets(sorted(consumer.assignment()))
        if lacking := sorted(set(events.TOPICS) - {part.topic for part in ends}):
            raise FinalsError(f"Kafka has no topic {', '.join(lacking)}: run python -m fairline.stream.topics")
        while left := [part for part, end in ends.items() if await consumer.position(part) < end]:
            records = await consumer.getmany(*left, timeout_ms=round(WITHIN_S * 1000))
            if not records:
                raise TimeoutError(f"Kafka gives nothing more of {left[0].topic} within {WITHIN_S:g} s")
            for record in (record for part in records.values() for record in part):
                if record.offset < ends[TopicPartition(record.topic, record.partition)]:
                    found.take(record)
    finally:
        await stop(consumer)
    return found.side()


class _Found:
    """The facts of one sale among all that are read. Of what else may stand on the topics nothing is kept."""

    def __init__(self, sale_id: str, ours: set[str]) -> None:
        self._sale_id, self._ours = sale_id, ours
        self._orders: list[events.OrderPlaced] = []
        self._results: list[events.OrderConfirmed | events.OrderFailed] = []
        self._ended: list[events.TicketDeclined | events.TicketLapsed] = []
        self._sales: list[events.SaleChanged] = []
        self._dead: list[Letter] = []

    def take(self, record: Any) -> None:
        topic, is_dead, _ = record.topic.partition(events.DEAD_LETTERS)
        try:
            fact = events.decode(record.value or b"")
        except (msgspec.MsgspecError, ValueError, RecursionError):
            fact = None
        key = (record.key or b"").decode(errors="replace")
        if (key not in self._ours) if fact is None else (fact.sale_id != self._sale_id):
            return
        if is_dead:
            reason = dict(record.headers).get("fairline-reason", b"").decode(errors="replace")
            self._dead.append(Letter(topic=topic, ticket_id=getattr(fact, "ticket_id", key), reason=reason))
            return
        match fact:
            case events.OrderPlaced():
                self._orders.append(fact)
            case events.OrderConfirmed() | events.OrderFailed():
                self._results.append(fact)
            case events.TicketDeclined() | events.TicketLapsed():
                self._ended.append(fact)
            case events.SaleChanged():
                self._sales.append(fact)
            case _:
                pass

    def side(self) -> KafkaSide:
        return KafkaSide(
            orders=tuple(self._orders),
            results=tuple(self._results),
            ended=tuple(self._ended),
            sales=tuple(self._sales),
            dead=tuple(self._dead),
        )


async def _postgres(sale_id: str, dsn: str) -> PostgresSide:
    """In one snapshot."""
    postgres = await asyncpg.connect(dsn, timeout=WITHIN_S, command_timeout=WITHIN_S)
    try:
        async with postgres.transaction(isolation="repeatable_read", readonly=True):
            epoch = await postgres.fetchval("SELECT epoch FROM sales WHERE sale_id = $1", sale_id)
            items = await postgres.fetch("SELECT sku, stock, high FROM items WHERE sale_id = $1", sale_id)
            orders = await postgres.fetch("SELECT * FROM orders WHERE sale_id = $1", sale_id)
            units = await postgres.fetch(
                "SELECT sku, unit, buyer_id, ticket_id, slot FROM order_units"
                " WHERE sale_id = $1 AND ticket_id IS NOT NULL",
                sale_id,
            )
            history = await postgres.fetch("SELECT ticket_id, outcome FROM ticket_history WHERE sale_id = $1", sale_id)
    finally:
        await postgres.close(timeout=WITHIN_S)
    return PostgresSide(
        epoch=epoch or 0,
        stock={row["sku"]: row["stock"] for row in items},
        high={row["sku"]: row["high"] for row in items},
        orders={
            str(row["ticket_id"]): Row(
                sku=row["sku"],
                buyer_id=row["buyer_id"],
                verdict=row["verdict"],
                reason=row["reason"],
                units=tuple(row["units"]),
                epoch=row["epoch"],
            )
            for row in orders
        },
        units=tuple(Unit(**{**dict(row), "ticket_id": str(row["ticket_id"])}) for row in units),
        history={str(row["ticket_id"]): row["outcome"] for row in history},
    )


def _numbers(fields: Mapping[Any, Any]) -> dict[str, int]:
    return {name.decode(): int(number) for name, number in fields.items()}


def _texts(members: Any) -> tuple[str, ...]:
    return tuple(member.decode() for member in members)
