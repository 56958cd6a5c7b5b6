"""One stack for all of this folder, with two copies of what shares work; each test leaves it whole."""

import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from fairline.demo.scenario import Scenario
from tests.support.admission import Shop
from tests.support.sale import a_name
from tests.support.stack import FullStack
from tests.support.trouble import QUICK, a_slow_shop, all_ready, release


@pytest.fixture(scope="package")
async def whole() -> AsyncIterator[FullStack]:
    """Everything, started once."""
    async with FullStack(copies={"admission": 2, "order_service": 2}, environ=QUICK) as stack:
        yield stack


@pytest.fixture
async def stack(whole: FullStack) -> AsyncIterator[FullStack]:
    """Everything, and ready; whatever a test held down or froze is back afterwards."""
    await all_ready(whole)
    yield whole
    there = {process["name"] for process in whole.info["processes"]}
    for name in ("redis", "postgres", "kafka", *whole.info["internal_urls"]):
        if name not in there:
            await release(whole, name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(whole.pid(name), signal.SIGCONT)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """A shop that does not sell to everybody, and may be killed while it thinks."""
    async with a_slow_shop() as shop:
        yield shop


@pytest.fixture
def queue(rush: Scenario) -> Scenario:
    """The same crowd, admitted so slowly that the line stands for ten seconds, in which a busy machine gets to it."""
    return replace(rush, rate_per_s=12.0, stock=75)


@pytest.fixture
def rush() -> Scenario:
    """Some hundred buyers who want more than there is, admitted for longer than they take to ask."""
    return Scenario(
        sale_id=a_name(of="rush"),
        seed=random.randrange(1_000_000),
        buyers=300,
        requests=1500,
        items=2,
        stock=70,
        rate_per_s=60.0,
        capacity=40,
        name="A rush",
    )
