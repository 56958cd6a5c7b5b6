"""redrive.lua: what nothing was heard of is sent again, more and more rarely (O3, V8)."""

import msgspec

from admission.stock import Verdict
from fairline.events import OrderPlaced, SaleChanged
from tests.integration.scripts.conftest import NewSale


async def test_o3_the_same_order_is_sent_again_with_the_epoch_of_today(new_sale: NewSale) -> None:
    sale = await new_sale(3, per_buyer_limit=2)
    [ada] = await sale.reserved("ada", quantity=2)
    order = (await sale.relay())[-1]
    assert await sale.redrive() == (0, 0), "not yet"
    await sale.redis.zadd(sale.keys.reserved, {ada: 0})
    await sale.redis.hset(sale.keys.meta, "epoch", 3)
    assert await sale.redrive() == (1, 0)
    [again] = await sale.relay()
    assert isinstance(order, OrderPlaced)
    assert isinstance(again, OrderPlaced)
    assert (order.epoch, again.epoch) == (0, 3)
    assert {"epoch": 0} | {f: getattr(again, f) for f in again.__struct_fields__ if f != "epoch"} == {
        f: getattr(order, f) for f in order.__struct_fields__
    }


async def test_o2_an_order_that_kafka_loses_lives_on_in_its_ticket_until_it_is_settled(new_sale: NewSale) -> None:
    sale = await new_sale(5, per_buyer_limit=3)
    [bob] = await sale.reserved("bob")
    [ada] = await sale.reserved("ada", quantity=3)
    for _ in range(3):
        await sale.relay()  # and nobody reads the topic
        await sale.redis.zadd(sale.keys.reserved, {ada: 0, bob: 0})
        assert await sale.redrive() == (2, 0)
        orders = {fact.ticket_id: fact for fact in await sale.relay() if isinstance(fact, OrderPlaced)}
        assert (orders[ada].buyer_id, orders[ada].sku, orders[ada].units, orders[ada].slots) == (
            ("ada", "seat", (2, 3, 4), (1, 2, 3))
        )
    await sale.stock.settle([Verdict(ada, "confirm", orders[ada].units, orders[ada].slots, "")])
    await sale.redis.zadd(sale.keys.reserved, {bob: 0})
    assert await sale.redrive() == (1, 0)
    assert await sale.states(ada, bob) == ["CONFIRMED", "RESERVED"]


async def test_o3_the_wait_doubles_up_to_the_longest(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.reserved("ada")
    waits = []
    for _ in range(6):
        await sale.redis.zadd(sale.keys.reserved, {ada: 0})
        seconds, micros = await sale.redis.time()
        assert await sale.redrive(redrive_ms=30_000, longest_ms=300_000) == (1, 0)
        due_ms = await sale.redis.zscore(sale.keys.reserved, ada)
        assert due_ms is not None
        waits.append(round((due_ms - seconds * 1000 - micros / 1000) / 10_000))
    assert waits == [6, 12, 24, 30, 30, 30], "tens of seconds; the first wait, 30 s, is reserve's"
    assert (await sale.record(ada)).sends == 7


async def test_o3_an_order_sent_a_thousand_times_still_waits_the_longest(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.reserved("ada")
    record = await sale.record(ada)
    record.sends = 5000  # 2 to this power is no number
    await sale.redis.hset(sale.keys.tickets, ada, msgspec.msgpack.encode(record))
    await sale.redis.zadd(sale.keys.reserved, {ada: 0})
    assert await sale.redrive() == (1, 0)
    due_ms = await sale.redis.zscore(sale.keys.reserved, ada)
    seconds, _ = await sale.redis.time()
    assert due_ms is not None
    assert 290_000 < due_ms - seconds * 1000 < 310_000


async def test_o3_a_clock_that_went_back_holds_up_neither_an_order_nor_a_change(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    [ada] = await sale.reserved("ada")
    await sale.patch(message="hear me")
    assert await sale.redrive(redrive_ms=60_000) == (0, 0), "neither is due"
    seconds, _ = await sale.redis.time()
    an_hour_ahead_ms = (seconds + 3600) * 1000  # as they were written by the clock of before
    await sale.redis.zadd(sale.keys.reserved, {ada: an_hour_ahead_ms})
    await sale.redis.hset(sale.keys.meta, "posted_ms", an_hour_ahead_ms)
    assert await sale.redrive(redrive_ms=60_000) == (1, 1)
    assert await sale.redrive(redrive_ms=60_000) == (0, 0), "both wait by the clock of now"


async def test_o1_no_more_than_asked_for_and_than_the_outbox_holds(new_sale: NewSale) -> None:
    sale = await new_sale(5)
    ids = await sale.reserved("ada", "bob", "cy", "dee", "eve")
    await sale.relay()
    await sale.redis.zadd(sale.keys.reserved, dict.fromkeys(ids, 0))
    assert await sale.redrive(2) == (2, 0)
    assert await sale.redrive(outbox_limit=2) == (0, 0), "what is not sent yet need not be sent again"
    assert await sale.redrive(outbox_limit=3) == (1, 0)
    assert await sale.redrive() == (2, 0)
    assert await sale.redrive() == (0, 0)
    assert {fact.key for fact in await sale.relay()} == set(ids)


async def test_o3_what_was_settled_is_not_sent_again(new_sale: NewSale) -> None:
    sale = await new_sale(2)
    ada, bob = await sale.reserved("ada", "bob")
    await sale.redis.zadd(sale.keys.reserved, {ada: 0, bob: 0})
    await sale.confirm(ada)
    await sale.release(bob)
    assert await sale.redrive() == (0, 0)


async def test_o4_a_change_that_postgres_did_not_acknowledge_is_sent_again(new_sale: NewSale) -> None:
    sale = await new_sale(1)
    await sale.patch(message="hear me")
    await sale.relay()
    assert await sale.redrive() == (0, 0), "not yet"
    await sale.redis.hset(sale.keys.meta, "posted_ms", 0)
    assert await sale.redrive() == (0, 1)
    [fact] = await sale.relay()
    assert isinstance(fact, SaleChanged)
    assert (fact.action, fact.message, fact.version) == ("again", "hear me", 3)
    assert await sale.redrive() == (0, 0), "the clock starts anew"
    await sale.redis.hset(sale.keys.meta, "posted_ms", 0)
    assert await sale.acknowledge(3) == "APPLIED"
    assert await sale.redrive() == (0, 0)
