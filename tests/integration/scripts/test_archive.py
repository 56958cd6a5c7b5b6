"""archive.lua, unlink.lua, remember.lua: a closed sale goes to Postgres in batches and leaves its counters (C2)."""

from typing import Any

import msgspec
import pytest

from admission.records import Archived
from admission.rememberer import left_of as remains_of
from fairline.errors import FencedError
from fairline.events import AnyFact, SaleChanged, TicketsArchived
from fairline.store.replies import WordReply
from fairline.store.scripts import Script
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import PLENTY, SaleDriver

SOON_MS = 60_000


async def closed_sale(new_sale: NewSale, *, damaged: bool = False) -> tuple[SaleDriver, dict[str, str]]:
    """A closed sale with one ticket in each terminal state, and those tickets by state."""
    sale = await new_sale({"chair": 1, "table": 3}, damaged=damaged)
    [bob] = await sale.reserved("bob", sku="table")
    await sale.release(bob)
    [cy] = await sale.join("cy", sku="table")
    lease, _ = await sale.admit()
    await sale.decline(lease, cy)
    [dee] = await sale.join("dee", sku="table")
    await sale.admit()
    await sale.end_leases(dee)
    await sale.reap(max_tries=1)
    [eve] = await sale.join("eve", sku="table")
    await sale.room.leave(sale.id, eve, "table")
    ann, zed = await sale.join("ann", "zed", sku="chair")
    lease, _ = await sale.admit()
    await sale.reserve(lease, ann)
    await sale.confirm(ann)
    await sale.sweep()
    await sale.change("end")
    await sale.acknowledge()
    await sale.relay()
    assert await sale.closed() == "CLOSED"
    tickets = {"CONFIRMED": ann, "RELEASED": bob, "DECLINED": cy, "LAPSED": dee, "LEFT": eve, "SOLD_OUT": zed}
    assert await sale.states(*tickets.values()) == list(tickets)
    return sale, tickets


async def keep(sale: SaleDriver) -> AnyFact:
    """Postgres keeps what lies in the outbox, and says so."""
    [fact] = await sale.relay()
    if isinstance(fact, TicketsArchived):
        assert await sale.stock.unlink(fact.batch) == len(fact.tickets)
    else:
        await sale.acknowledge()
    return fact


async def archived(sale: SaleDriver) -> None:
    """All the way."""
    while (word := await sale.archive()) != "ARCHIVED":
        assert word == "POSTED"
        await keep(sale)


async def left_of(sale: SaleDriver) -> set[str]:
    """The keys of a sale, without what they all begin with, and without grants, which expire."""
    keys = [key.decode().split(":", 2)[2] async for key in sale.raw.scan_iter(f"fairline:{{{sale.id}}}:*")]
    return {key for key in keys if not key.startswith("grant:")}


async def test_c2_every_ticket_goes_to_postgres_as_it_ended_and_only_counters_are_left(new_sale: NewSale) -> None:
    sale, tickets = await closed_sale(new_sale)
    before, seen = await sale.stats(), await sale.look()
    told: list[Any] = []
    while await sale.archive(most=4) == "POSTED":
        told.append(await keep(sale))
    first, second, last = told
    assert isinstance(last, SaleChanged)
    assert (last.action, last.state) == ("archive", "archived")
    assert (len(first.tickets), len(second.tickets)) == (4, 2)
    ends = {end.outcome: end for batch in (first, second) for end in batch.tickets}
    assert {outcome: end.ticket_id for outcome, end in ends.items()} == tickets
    assert (ends["CONFIRMED"].sku, ends["CONFIRMED"].buyer_id, ends["CONFIRMED"].quantity) == ("chair", "ann", 1)
    assert (ends["DECLINED"].reason, ends["LAPSED"].reason) == ("payment_declined", "not_decided_in_time")
    assert ends["SOLD_OUT"].arrival == 6
    assert ends["LEFT"].at_ms > 0
    assert await sale.archive() == "ARCHIVED"
    assert await left_of(sale) == {"meta", "items", "counts"}
    after, look = await sale.stats(), await sale.look()
    assert (after.counts, after.stocks, after.state) == (before.counts, before.stocks, "closed")
    assert [row.free for row in look.rows] == [row.free for row in seen.rows] == [0, 3]


async def test_c2_a_sale_that_is_not_closed_or_not_for_long_keeps_its_tickets(new_sale: NewSale) -> None:
    running = await new_sale(1)
    assert await running.archive() == "NOT_CLOSED"
    await running.change("end")
    await running.acknowledge()
    await running.relay()
    assert await running.archive() == "NOT_CLOSED"
    assert await running.closed() == "CLOSED"
    assert await running.archive(keep_ms=SOON_MS) == "NOT_DUE"
    assert await running.relay() == []
    closed_ms = int(await running.redis.hget(running.keys.meta, "closed_ms") or 0)
    await running.redis.hset(running.keys.meta, "closed_ms", closed_ms - SOON_MS)
    assert await running.archive(keep_ms=SOON_MS) == "POSTED"


async def test_c2_one_batch_is_under_way_at_a_time_and_what_is_lost_is_sent_again_as_it_was(new_sale: NewSale) -> None:
    sale, _ = await closed_sale(new_sale)
    assert await sale.archive("first", most=2) == "POSTED"
    [first] = await sale.relay()
    assert isinstance(first, TicketsArchived)
    assert await sale.archive("second", most=2) == "WAITING", "however many copies ask"
    assert await sale.relay() == []
    assert await sale.archive("third", most=2, again_ms=0) == "POSTED"
    [again] = await sale.relay()
    assert again == first, "the same tickets under the same name, so that either answer is good"
    assert await sale.stock.unlink("first") == 2
    assert await sale.stock.unlink("first") == 0, "an answer that comes twice"
    assert await sale.archive("fourth", most=9) == "POSTED"
    assert await sale.stock.unlink("first") == 0, "an old answer forgets nothing of the next batch"
    assert await sale.redis.hlen(sale.keys.tickets) == 4
    assert await sale.stock.unlink("fourth") == 4
    await sale.relay()
    await archived(sale)


async def test_c2_a_clock_that_went_back_does_not_hold_up_a_batch(new_sale: NewSale) -> None:
    sale, _ = await closed_sale(new_sale)
    assert await sale.archive() == "POSTED"
    await sale.relay()
    batch, posted_ms, ids = msgspec.msgpack.decode(await sale.raw.get(sale.keys.archive))
    await sale.raw.set(sale.keys.archive, msgspec.msgpack.encode([batch, posted_ms + 10 * SOON_MS, ids]))
    assert await sale.archive() == "POSTED"
    assert await sale.relay() != []
    await sale.stock.unlink(batch)
    await archived(sale)


async def test_c2_what_redis_knows_alone_goes_last_and_only_when_postgres_has_heard_of_it(new_sale: NewSale) -> None:
    sale, _ = await closed_sale(new_sale)
    assert await sale.archive() == "POSTED"
    await keep(sale)
    assert await sale.archive() == "POSTED"
    assert await sale.archive() == "WAITING", "it is not even on Kafka"
    await sale.relay()
    assert await sale.archive() == "WAITING", "Kafka has it; Postgres has not said so"
    assert "held" in await left_of(sale)
    assert await sale.archive(again_ms=0) == "POSTED"
    [again] = await sale.relay()
    assert isinstance(again, SaleChanged)
    assert again.state == "archived"
    await sale.acknowledge()
    assert await sale.archive() == "ARCHIVED"
    assert await sale.archive() == "ARCHIVED"
    assert await sale.relay() == []


async def test_o1_a_full_outbox_stops_the_archiving_too(new_sale: NewSale) -> None:
    sale, _ = await closed_sale(new_sale)
    assert await sale.archive(outbox_limit=0) == "WAITING"
    assert await sale.relay() == []
    await archived(sale)


async def test_c2_a_sale_without_a_ticket_is_archived_too(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.change("end")
    await sale.acknowledge()
    await sale.relay()
    assert await sale.closed() == "CLOSED"
    await archived(sale)
    assert await left_of(sale) == {"meta", "items"}, "nothing was ever counted"


async def test_c2_an_archived_sale_answers_on_any_redis_and_changes_no_more(new_sale: NewSale) -> None:
    sale, tickets = await closed_sale(new_sale)
    await archived(sale)
    # Its fence is no longer the identity of the Redis that it was written on: it goes on after a restart.
    assert (await sale.look()).meta["fence"] == "archived"
    before = await sale.redis.hgetall(sale.keys.meta), await sale.redis.hgetall(sale.keys.counts)
    assert await sale.room.read(sale.id, [(tickets["CONFIRMED"], "chair")]) == [None]
    assert (await sale.room.leave(sale.id, tickets["LEFT"], "table"))[0] == "UNKNOWN"
    assert (await sale.change("open")).word == "ILLEGAL"
    assert (await sale.set_stock(9, version=1, sku="chair")).word == "ENDED"
    assert (await sale.confirm_as(tickets["LAPSED"], units=[1], slots=[1])).count == 0
    assert await sale.admitted() == []
    assert not await sale.sales.halt(sale.id, "nobody would rebuild it")
    assert (await sale.redis.hgetall(sale.keys.meta), await sale.redis.hgetall(sale.keys.counts)) == before
    assert (await sale.ask("new", sku="chair"))[0] == "SALE_CLOSED"
    # Asked by a copy that starts now, where the one that archived the sale died before it was taken off the list.
    assert await sale.stock.count(every_ms=0, outbox_limit=PLENTY) == "NOT_DUE", "who was refused since is not told"
    assert await left_of(sale) == {"meta", "items", "counts"}


async def test_c2_a_batch_may_name_tickets_that_are_not_there_any_more(new_sale: NewSale) -> None:
    sale, tickets = await closed_sale(new_sale)
    assert await sale.archive() == "POSTED"
    await sale.relay()
    # As after a rebuild between posting and answer, which did not find them all.
    await sale.redis.hdel(sale.keys.tickets, tickets["LEFT"], tickets["SOLD_OUT"])
    assert await sale.archive(again_ms=0) == "POSTED"
    [batch] = await sale.relay()
    assert isinstance(batch, TicketsArchived)
    assert {end.outcome for end in batch.tickets} == tickets.keys() - {"LEFT", "SOLD_OUT"}
    assert await sale.stock.unlink(batch.batch) == 6
    await archived(sale)


async def test_c2_nothing_leaves_a_sale_that_was_rebuilt_until_it_is_closed_again(new_sale: NewSale) -> None:
    sale, tickets = await closed_sale(new_sale)
    assert await sale.archive("first") == "POSTED"
    await sale.relay()
    await sale.redis.hset(sale.keys.meta, "state", "ended")  # as a rebuild has it
    assert await sale.stock.unlink("first") == 0, "or its buyers would be told that there was no such ticket"
    assert await sale.states(*tickets.values()) == list(tickets)
    await sale.redis.hset(sale.keys.meta, "state", "closed")
    assert await sale.stock.unlink("first") == 6
    await archived(sale)


@pytest.mark.parametrize("script", ["archive", "unlink"])
async def test_d1_a_halted_sale_is_not_archived(new_sale: NewSale, script: str) -> None:
    sale, _ = await closed_sale(new_sale, damaged=True)
    await sale.archive()
    await sale.redis.hset(sale.keys.meta, "fence", "another")
    call = sale.archive() if script == "archive" else sale.stock.unlink("batch")
    with pytest.raises(FencedError):
        await call
    assert await sale.redis.hlen(sale.keys.tickets) == 6


async def seen_of(sale: SaleDriver) -> tuple[Any, ...]:
    """What a gateway can tell of it, but for how far a line had come in which nobody stands."""
    look, stats = await sale.look(), await sale.stats()
    told = {name: look.meta[name] for name in ("state", "fence", "name", "epoch", "version", "acked", "skus", "rate")}
    rows = [msgspec.structs.replace(row, served=0) for row in look.rows]
    return told, rows, stats.state, sorted(zip(stats.counts[::2], stats.counts[1::2], strict=True)), stats.stocks


async def test_c2_what_was_left_of_a_sale_is_written_down_again_from_what_postgres_has(new_sale: NewSale) -> None:
    sale, tickets = await closed_sale(new_sale, damaged=True)
    facts = []
    while await sale.archive() != "ARCHIVED":
        facts.append(await keep(sale))
    last = facts[-1]
    assert isinstance(last, SaleChanged)
    before = await seen_of(sale)
    counts = {name.decode(): int(number) for name, number in (await sale.raw.hgetall(sale.keys.counts)).items()}
    postgres = Archived(sale.id, last.epoch, last.version, last, counts, {"chair": 1})
    fields, items = remains_of(postgres)
    remember = Script("admission", "remember", WordReply)

    async def again() -> str:
        return (await remember(sale.redis, sale.keys, fields=fields, items=items, counts=counts)).word

    assert await again() == "KNOWN"
    assert await seen_of(sale) == before
    await sale.redis.hset(sale.keys.meta, "fence", "halted")
    assert await again() == "KNOWN"
    await sale.remove()
    assert await again() == "REMEMBERED"
    assert await seen_of(sale) == before
    assert await again() == "KNOWN"
    assert await sale.room.read(sale.id, [(tickets["CONFIRMED"], "chair")]) == [None]
    assert await sale.room.sale_ids() == [each for each in await sale.room.sale_ids() if each != sale.id], "not served"
