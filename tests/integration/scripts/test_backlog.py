"""admit.lua and what is not settled: it tells how much that is, slows as it is told to, and stops at the limit."""

from typing import Any

import msgspec
import pytest

from admission.backlog import FULL, STRAGGLERS, Backlog, Speed
from admission.stock import AdmitReply
from tests.integration.scripts.conftest import NewSale
from tests.integration.scripts.test_pace import Clockwork, Pace, most_in_a_window
from tests.support.sale import PLENTY, SaleDriver

AN_HOUR_MS = 3_600_000


async def admit(sale: SaleDriver, lease: str, **more: Any) -> AdmitReply:
    chosen = {"most": 1, "outbox_limit": PLENTY, "lease_ms": 60_000} | more
    return await sale.stock.admit(lease, **chosen)


async def reserved(sale: SaleDriver, number: int) -> list[str]:
    """So many orders that wait for their verdict; the ids of their tickets."""
    ids = await sale.join(*(f"early-{n}" for n in range(number)))
    lease, _ = await sale.admit(number)
    assert await sale.reserve(lease, *ids) == ["RESERVED"] * number
    return ids


async def make_older(sale: SaleDriver, *ticket_ids: str) -> None:
    """By an hour: record, and place among those that wait for a redrive."""
    for ticket_id in ticket_ids:
        record = await sale.record(ticket_id)
        record.changed_ms -= AN_HOUR_MS
        await sale.redis.hset(sale.keys.tickets, ticket_id, msgspec.msgpack.encode(record))
        await sale.raw.zincrby(sale.keys.reserved, -AN_HOUR_MS, ticket_id)


async def test_it_tells_what_waits_for_kafka_and_how_many_orders_and_how_old(new_sale: NewSale) -> None:
    sale = await new_sale(99)
    before = (await admit(sale, "before")).backlog
    assert (before.orders, before.age_ms) == (0, 0)
    ids = await reserved(sale, STRAGGLERS + 1)
    found = (await admit(sale, "with-orders")).backlog
    assert found.outbox == before.outbox + STRAGGLERS + 1
    assert found.orders == STRAGGLERS + 1
    assert found.age_ms < AN_HOUR_MS
    await make_older(sale, *ids[:STRAGGLERS])
    assert (await admit(sale, "stragglers")).backlog.age_ms < AN_HOUR_MS, "a few that nobody can write hold up nobody"
    await make_older(sale, ids[STRAGGLERS])
    assert (await admit(sale, "behind")).backlog.age_ms >= AN_HOUR_MS
    await sale.confirm(*ids)
    assert (await admit(sale, "settled")).backlog == Backlog(outbox=found.outbox)


async def test_orders_that_were_sent_again_are_as_old_as_they_were_whoever_orders_after_them(new_sale: NewSale) -> None:
    sale = await new_sale(99)
    ids = await reserved(sale, STRAGGLERS + 1)
    await make_older(sale, *ids)
    assert await sale.redrive(redrive_ms=60_000) == (STRAGGLERS + 1, 0)
    fresh = await sale.join(*(f"late-{n}" for n in range(STRAGGLERS + 1)))
    lease, _ = await sale.admit(len(fresh))
    assert await sale.reserve(lease, *fresh) == ["RESERVED"] * len(fresh)
    assert (await admit(sale, "behind")).backlog.age_ms >= AN_HOUR_MS
    await sale.confirm(ids[0])
    assert (await admit(sale, "stragglers")).backlog.age_ms < AN_HOUR_MS


async def test_at_the_limit_of_orders_nobody_is_admitted_until_some_have_their_verdict(new_sale: NewSale) -> None:
    sale = await new_sale(99)
    [first, _] = await reserved(sale, 2)
    await sale.join("late", "later")
    assert (await admit(sale, "full", orders_limit=2)).word == "ORDERS_FULL"
    assert (await admit(sale, "share", orders_limit=4, speed=Speed(0.5, "orders"))).word == "ORDERS_FULL"
    await sale.confirm(first)
    reply = await admit(sale, "one", orders_limit=2, most=9)
    assert (reply.word, len(reply.tickets)) == ("ADMITTED", 1)
    assert (await admit(sale, "again", orders_limit=2)).word == "ORDERS_FULL", "whoever is admitted will order too"
    assert (await admit(sale, "one", orders_limit=2)).tickets == reply.tickets, "the same lease, the same tickets (L1)"


@pytest.mark.parametrize("share", [0.05, 0.5])
@pytest.mark.parametrize("rate", [1.0, 60.0])
async def test_p1_a_share_of_the_pace_is_that_share_in_the_long_run_and_never_faster_than_told(
    new_sale: NewSale, rate: float, share: float
) -> None:
    pace = Pace(rate)
    sale = await new_sale(int(4 * pace.per_window), rate_per_s=rate)
    await sale.join(*(f"buyer-{n}" for n in range(int(4 * pace.per_window))))
    clockwork = Clockwork(sale)
    at = 1_700_000_000.0
    admitted = []
    span_s = max(3 * pace.window_s, 6 / (rate * share))
    step_s = max(0.2 / rate, 0.02)
    while at < 1_700_000_000.0 + span_s:
        at += step_s
        admitted.append((at, await clockwork.admit(at, share=share)))
    assert most_in_a_window(admitted, pace.window_s) <= pace.per_window
    total = sum(number for _, number in admitted)
    assert total == pytest.approx(pace.fill_per_s * share * span_s, rel=0.1, abs=2)
    before = at
    while not await clockwork.admit(at):
        at += step_s
    assert at - before <= (1 / share + 1) / pace.fill_per_s, "a debt is small: full pace comes back soon"


async def test_statistics_say_how_slow_and_why_as_long_as_it_is_so(new_sale: NewSale) -> None:
    sale = await new_sale(9)

    async def told() -> tuple[float, str]:
        found = await sale.stats()
        return found.share, found.because

    assert await told() == (1.0, "")
    await admit(sale, "slow", speed=Speed(0.25, "old_orders"))
    assert await told() == (0.25, "old_orders")
    await sale.change("pause")
    assert await told() == (1.0, ""), "a paused sale is not slow"
    await sale.change("resume")
    await admit(sale, "fast", speed=FULL)
    assert await told() == (1.0, "")
