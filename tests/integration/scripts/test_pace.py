"""P1 to P3: in every window no more are admitted than the rate allows, whatever Redis's clock does.

The windows are checked on admit.lua itself with the clock taken out and another put in, so that minutes pass in a
blink; once more, shorter, by the real clock and with two controllers at once.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import Any, Final

import pytest
from redis.asyncio import Redis

from admission.backlog import STRAGGLERS
from fairline.store.keys import SaleKeys
from fairline.store.scripts import Script
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import PLENTY, SaleDriver
from tests.support.scripts import script_of

RATES: Final = (0.05, 1.0, 7.3, 60.0, 150.0)
ENOUGH: Final = 10  # calls that admit somebody
_CLOCK: Final = "redis.call('TIME')"
_INJECTED: Final = "local CLOCK = redis.call('HMGET', KEYS[1], 'test_s', 'test_us')\n"


@dataclass(frozen=True)
class Pace:
    """P1's numbers for a rate."""

    rate: float

    @property
    def window_s(self) -> float:
        return max(10, 10 / self.rate)

    @property
    def per_window(self) -> float:
        return self.window_s * self.rate

    @property
    def depth(self) -> float:
        return max(1, self.rate / 10)

    @property
    def fill_per_s(self) -> float:
        return (self.per_window - self.depth) / self.window_s


class Clockwork:
    """admit.lua with a clock that the test moves."""

    def __init__(self, sale: SaleDriver) -> None:
        self.sale = sale
        self.script: Script[Any] = script_of("admission", "admit")
        assert self.script.text.count(_CLOCK) == 2
        self.script.text = _INJECTED + self.script.text.replace(_CLOCK, "CLOCK")
        self.script.sha = "0" * 40  # unknown, so the text is sent
        self.calls = 0

    async def admit(self, clock_s: float, *, share: float = 1.0) -> int:
        """How many are admitted when Redis's clock shows this, at a share of the pace."""
        micros = round(clock_s * 1_000_000)
        await self.sale.redis.hset(
            self.sale.keys.meta, mapping={"test_s": micros // 1_000_000, "test_us": micros % 1_000_000}
        )
        self.calls += 1
        lease = f"call-{self.calls}"
        reply = await self.script(
            self.sale.redis,
            SaleKeys(self.sale.id, self.sale.skus, lease=lease),
            lease=lease,
            lease_ms=1000,
            most=PLENTY,
            outbox_limit=PLENTY,
            skus=self.sale.skus,
            moved=self.sale.keys.moved,
            share=f"{share:g}",
            because="",
            orders_limit=PLENTY,
            stragglers=STRAGGLERS,
        )
        return len(reply[1])


async def _paced(new_sale: NewSale, rate: float, waiting: int) -> Clockwork:
    sale = await new_sale(waiting, rate_per_s=rate)
    await sale.join(*(f"buyer-{n}" for n in range(waiting)))
    return Clockwork(sale)


def most_in_a_window(admitted: list[tuple[float, int]], window_s: float) -> int:
    """Of (real instant, how many), in order."""
    most = first = inside = 0
    for at, number in admitted:
        inside += number
        while admitted[first][0] <= at - window_s:
            inside -= admitted[first][1]
            first += 1
        most = max(most, inside)
    return most


def test_the_window_is_measured_rightly() -> None:
    assert most_in_a_window([(0, 2), (5, 1), (9.9, 3), (10, 4), (21, 1)], 10) == 8


@pytest.mark.parametrize("rate", RATES)
async def test_p1_every_window_holds_at_most_the_rate_and_little_is_given_away(new_sale: NewSale, rate: float) -> None:
    pace = Pace(rate)
    clockwork = await _paced(new_sale, rate, int(4 * pace.per_window))
    at = 1_700_000_000.0
    admitted = [(at, await clockwork.admit(at))]
    fills_in_s = pace.depth / pace.fill_per_s
    end = at + 2.2 * pace.window_s
    while at < end:
        # Ticks faster than the bucket fills, as a controller makes them; now and then a long rest, which fills it.
        at += fills_in_s * (3 if random.random() < 0.03 else random.choice((0.05, 0.1)))
        admitted.append((at, await clockwork.admit(at)))
    assert most_in_a_window(admitted, pace.window_s) <= pace.per_window
    lost_s = sum(max(0, b - a - fills_in_s) for (a, _), (b, _) in pairwise(admitted))
    could = pace.fill_per_s * (at - admitted[0][0] - lost_s)
    # A bucket of one is full up to a tick, a tenth, before somebody takes it; a rest may meet it half full.
    rests = sum(b - a > fills_in_s for (a, _), (b, _) in pairwise(admitted))
    assert sum(number for _, number in admitted) >= could / 1.1 - (rests + 1) * pace.depth - 1


@pytest.mark.parametrize("rate", [1.0, 60.0])
@pytest.mark.parametrize("jump_s", [-3600.0, -7.0, 7.0, 3600.0])
async def test_p2_a_jump_of_the_clock_costs_at_most_one_bucket_and_stalls_nothing(
    new_sale: NewSale, rate: float, jump_s: float
) -> None:
    pace = Pace(rate)
    clockwork = await _paced(new_sale, rate, int(4 * pace.per_window))
    tick_s = 0.9 * pace.depth / pace.fill_per_s
    real, off, jumps = 0.0, 1_700_000_000.0, 0
    admitted: list[tuple[float, int]] = []
    for n in range(int(2.5 * pace.window_s / tick_s)):
        if n % 17 == 16:
            off, jumps = off + jump_s, jumps + 1
            jumped_at = len(admitted)
        admitted.append((real, await clockwork.admit(real + off)))
        if jumps and len(admitted) == jumped_at + 4:
            assert sum(number for _, number in admitted[-4:]) >= 1, "four ticks after a jump somebody went"
        real += tick_s
    jumps_a_window = pace.window_s / tick_s / 17 + 1
    assert most_in_a_window(admitted, pace.window_s) <= pace.per_window + jumps_a_window * pace.depth


async def test_p2_a_single_jump_adds_at_most_one_bucket(new_sale: NewSale) -> None:
    pace = Pace(40.0)
    for jump_s in (-100.0, 100.0):
        clockwork = await _paced(new_sale, pace.rate, int(4 * pace.per_window))
        off, admitted = 1_700_000_000.0, []
        for n in range(400):
            off += jump_s if n == 200 else 0
            admitted.append((n * 0.05, await clockwork.admit(n * 0.05 + off)))
        assert most_in_a_window(admitted, pace.window_s) <= pace.per_window + pace.depth
        before, after = sum(k for _, k in admitted[100:200]), sum(k for _, k in admitted[200:300])
        assert abs(before - after) <= pace.depth + 1


async def test_p3_who_is_admitted_again_counts_again(new_sale: NewSale) -> None:
    clockwork = await _paced(new_sale, 10.0, 5)
    sale = clockwork.sale
    assert await clockwork.admit(1_700_000_000) == 1
    assert await sale.give_back("call-1", *await sale.leased()) == ["WAITING"]
    assert await clockwork.admit(1_700_000_000) == 0
    assert await clockwork.admit(1_700_000_000.2) == 1


async def test_p3_a_new_rate_first_settles_what_the_old_one_gave(new_sale: NewSale) -> None:
    sale = await new_sale(999, rate_per_s=10.0)
    await sale.join(*(f"buyer-{n}" for n in range(500)))
    await sale.redis.hset(sale.keys.meta, mapping={"tokens": "0", "filled_us": "0"})
    began_s, _ = await sale.redis.time()
    await sale.patch(rate_per_s=1000.0)
    tokens, filled_us = await sale.raw.hmget(sale.keys.meta, "tokens", "filled_us")
    assert float(tokens) == 1, "an hour at the old rate fills the old bucket, which held one"
    assert int(filled_us) >= began_s * 1_000_000, "and the new rate counts from now"
    await sale.admit()
    seconds, micros = await sale.redis.time()
    elapsed_s = (seconds * 1_000_000 + micros - int(filled_us)) / 1_000_000
    assert await sale.count("admitted_total") <= 1 + elapsed_s * Pace(1000.0).fill_per_s


async def test_p3_a_lower_rate_keeps_no_more_than_its_own_bucket(new_sale: NewSale) -> None:
    sale = await new_sale(999, rate_per_s=1000.0)
    await sale.join(*(f"buyer-{n}" for n in range(500)))
    await sale.patch(rate_per_s=10.0)
    assert len(await sale.admitted()) == 1


async def test_p3_other_changes_leave_the_bucket_alone(new_sale: NewSale) -> None:
    sale = await new_sale(9, rate_per_s=10.0)
    await sale.redis.hset(sale.keys.meta, mapping={"tokens": "0.25", "filled_us": "5"})
    await sale.patch(message="hello", capacity=3)
    assert await sale.raw.hmget(sale.keys.meta, "tokens", "filled_us") == [b"0.25", b"5"]


async def test_without_a_rate_all_go_and_a_rate_that_comes_begins_with_one_bucket(new_sale: NewSale) -> None:
    sale = await new_sale(999)
    await sale.join(*(f"buyer-{n}" for n in range(300)))
    assert len(await sale.admitted(100)) == 100
    await sale.patch(rate_per_s=10.0)
    assert len(await sale.admitted()) == 1
    await sale.patch(rate_per_s=None)
    assert len(await sale.admitted()) == 199


async def test_p1_by_the_real_clock_and_with_two_controllers_no_stretch_of_time_holds_too_many(
    new_sale: NewSale,
) -> None:
    pace = Pace(50.0)
    sale = await new_sale(999, rate_per_s=pace.rate)
    await sale.join(*(f"buyer-{n}" for n in range(900)))
    admitted: list[tuple[float, float, int]] = []  # between these two instants, so many
    end = time.monotonic() + 2.0

    async def controller() -> None:
        while (before := time.monotonic()) < end or sum(bool(number) for *_, number in admitted) <= ENOUGH:
            number = len(await sale.admitted())
            admitted.append((before, time.monotonic(), number))

    await asyncio.gather(controller(), controller())
    some = sorted(each for each in admitted if each[2])
    assert len(some) > ENOUGH
    for i, (first, _, _) in enumerate(some):
        number = 0
        for _, last, more in some[i:]:
            number += more
            assert number <= pace.depth + pace.fill_per_s * (last - first) + 1e-6


@pytest.mark.parametrize(
    ("bucket", "full"),
    [  # rate, tokens, filled at and now in microseconds
        ((10, 0, 0, 0), 0),
        ((10, 0, 0, 100_000), 0.99),  # 9.9 a second: what is left of the rate when a bucket may always be spent at once
        ((10, 0, 0, 3_600_000_000), 1),  # never more than the depth
        ((10, 0.5, 9_000_000, 0), 0.5),  # a step back earns nothing
        ((10, 7, 0, 0), 1),  # what an older, faster rate had left over
        ((0.05, 0, 0, 1_000_000), 0.045),
        ((1000, 0, 0, 50_000), 49.5),
        ((1_000_000, 0, 0, 10_000_000), 100_000),
    ],
)
async def test_p1_the_bucket_by_numbers(redis: Redis, bucket: tuple[float, ...], full: float) -> None:
    pace = (files("fairline.store") / "lua" / "shared" / "pace.lua").read_text()
    body = pace + "return string.format('%.17g', fill(unpack({ARGV[1] + 0, ARGV[2] + 0, ARGV[3] + 0, ARGV[4] + 0})))"
    reply: Any = await redis.eval(body, 0, *map(str, bucket))
    assert float(reply) == pytest.approx(full)
