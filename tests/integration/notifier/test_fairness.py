"""Thousands listen to one sale and one to another, on a real Redis: how long the one waits for the thousands.

The connections are stand-ins that note in which order they are written to; all else is as the process has it.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import pytest
from redis.asyncio import Redis

from fairline.runtime.metrics import Metrics
from fairline.runtime.services import cancelled
from fairline.runtime.settings import load
from fairline.store.moved import Moved
from fairline.store.room import Room
from notifier.hub import Client, Hub
from notifier.mailbox import Mailbox
from notifier.progress import Progress
from notifier.results import Results
from notifier.settings import NotifierSettings
from notifier.workers import Workers
from tests.support.listeners import KEYS
from tests.support.sale import SaleDriver
from tests.support.stack import eventually

CROWD: Final = 5_000
AT_ONCE: Final = 1_000
EARLY: Final = 0.5  # of the crowd; a twentieth at rest


class Told:
    """Every ticket frame that was written, in order: the sale and the frame."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, bytes]] = []

    def of(self, sale: SaleDriver, state: str) -> list[int]:
        """When, counted in frames, tickets of this sale were told this state."""
        wanted = f'"state":"{state}"'.encode()
        return [at for at, (sale_id, frame) in enumerate(self.frames) if sale_id == sale.id and wanted in frame]


class Wire:
    """A connection of somebody who always reads at once."""

    blocked = False

    def __init__(self, sale_id: str, told: Told) -> None:
        self._sale_id = sale_id
        self._told = told

    def write(self, frame: bytes) -> None:
        if b'"type":"ticket"' in frame:
            self._told.frames.append((self._sale_id, frame))

    def shut(self, code: int) -> None:
        raise AssertionError(f"closed with {code}")


@pytest.fixture
async def hub(redis: Redis) -> AsyncIterator[Hub]:
    """A notifier without its listener."""
    settings = load(
        NotifierSettings,
        {"FAIRLINE_REDIS_URL": "redis://nowhere", "FAIRLINE_TOKEN_KEYS": KEYS, "FAIRLINE_PORT": "0"}
        | {"FAIRLINE_NOTIFIER_READ_BATCH": "100", "FAIRLINE_NOTIFIER_TICK_MS": "40"}
        | {"FAIRLINE_NOTIFIER_PATIENCE_MS": "60000"},  # or a busy machine has everything read again
    )
    hub, metrics, room, moved, stopping = Hub(), Metrics(), Room(redis), Moved(redis), asyncio.Event()
    results = Results(room, hub, metrics, settings)
    hub.watch(
        first=lambda audience: moved.follow(audience.sale_id), last=lambda audience: moved.forget(audience.sale_id)
    )
    workers = Workers(hub, [results.work, Progress(room, metrics, settings).work])
    working, hearing = asyncio.create_task(workers.run(stopping)), asyncio.create_task(moved.run(results))
    yield hub
    await cancelled(hearing)
    stopping.set()
    await working


@pytest.fixture
async def busy(redis: Redis) -> AsyncIterator[SaleDriver]:
    opened = await SaleDriver.opened(redis, CROWD)
    yield opened
    await opened.remove()


async def test_the_only_listener_of_a_calm_sale_does_not_wait_for_the_thousands_of_a_busy_one(
    hub: Hub, busy: SaleDriver, sale: SaleDriver
) -> None:
    told = Told()
    crowd: list[str] = []
    for at in range(0, CROWD, AT_ONCE):
        crowd += await busy.join(*(f"buyer-{number}" for number in range(at, at + AT_ONCE)))
    [anna] = await sale.join("anna")
    for ticket_id in crowd:
        hub.attach(busy.id, client_of(ticket_id, Wire(busy.id, told)))
    hub.attach(sale.id, client_of(anna, Wire(sale.id, told)))  # after all of them
    await all_told(told, busy, sale, "WAITING")
    assert before(told, busy, sale, "WAITING") < EARLY
    await asyncio.gather(busy.admit(CROWD), sale.admit())  # everybody's ticket moves at once
    await all_told(told, busy, sale, "ADMITTED")
    assert before(told, busy, sale, "ADMITTED") < EARLY


def client_of(ticket_id: str, wire: Wire) -> Client:
    return Client(
        ticket_id=ticket_id, sku="seat", mailbox=Mailbox(wire, limit=9), finish_in=lambda _seconds, _code: None
    )


async def all_told(told: Told, busy: SaleDriver, calm: SaleDriver, state: str) -> None:
    await eventually(lambda: len(told.of(busy, state)) == CROWD and len(told.of(calm, state)) == 1)


def before(told: Told, busy: SaleDriver, calm: SaleDriver, state: str) -> float:
    """The share of the crowd that was told before the only one."""
    [mine] = told.of(calm, state)
    return sum(at < mine for at in told.of(busy, state)) / CROWD
