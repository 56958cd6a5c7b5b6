"""The composition root of admission: what is chosen here is what tests replace."""

import asyncio

import aiohttp

from admission.archiver import Archiver
from admission.controller import Controller
from admission.desk import Desk
from admission.keeper import Keeper
from admission.reconcile.census import Census
from admission.reconcile.comparison import Comparison
from admission.reconcile.reconciler import Reconciler
from admission.records import Records
from admission.recoverer import Recoverer
from admission.relay import Relay
from admission.roster import Roster
from admission.settings import AdmissionSettings
from admission.settler import GROUP, Settler
from admission.stock import Stock
from fairline.events import RESULTS
from fairline.runtime.health import Health, HttpServer
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import Endless, run
from fairline.store.client import check, connect, refuse_unfit
from fairline.store.room import Room
from fairline.store.sales import Sales
from fairline.stream.reader import EventReader
from fairline.stream.writer import EventWriter


async def start(settings: AdmissionSettings, stopping: asyncio.Event | None = None) -> None:
    """Run a controller for all sales until it is stopped."""
    name = settings.process or "admission"
    metrics = Metrics()
    redis = connect(settings.redis_url, name=name, timeout_s=settings.redis_timeout_s)
    room = Room(redis)
    sales = Sales(room)
    writer = EventWriter(settings.kafka, name)
    reader = EventReader(settings.kafka, [RESULTS], GROUP, name, session_s=settings.kafka_session_s)
    shop = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),  # each sale has its own limit; a queue here would eat the time limit
        cookie_jar=aiohttp.DummyCookieJar(),
    )

    records = Records(shop, settings.order_service_url)
    recoverer = Recoverer(redis, room, records, settings, metrics)

    async def comparison_of(sale_id: str) -> Comparison | None:
        skus = await room.skus(sale_id)
        if skus is None:
            return None
        return Comparison(Census(redis, sale_id, skus), Stock(redis, sale_id, skus), records)

    async def open_desk(sale_id: str) -> Desk | None:
        skus = await room.skus(sale_id)
        if skus is None:
            return None
        stock = Stock(redis, sale_id, skus)
        return Desk(
            sale_id,
            controller=Controller(stock, settings, metrics),
            keeper=Keeper(sales, stock, settings, metrics),
            relay=Relay(redis, writer, sale_id, settings, metrics),
            shop=shop,
            settings=settings,
            metrics=metrics,
        )

    def open_closed(sale_id: str, skus: tuple[str, ...]) -> tuple[Stock, Relay]:
        return Stock(redis, sale_id, skus), Relay(redis, writer, sale_id, settings, metrics)

    health = Health(metrics, {"redis": lambda: check(redis), "kafka": writer.check, "results": reader.check})
    try:
        await refuse_unfit(redis)
        await run(
            [
                HttpServer(health, host=settings.internal_host, port=settings.internal_port),
                Roster(room, open_desk, metrics.forget_sale),
                Archiver(sales, room, open_closed, settings),
                Endless(recoverer.look, name="recoverer"),
                Settler(redis, room, reader, settings, metrics),
                Reconciler(redis, room, comparison_of, metrics, every_s=settings.compare_every_s),
            ],
            drain_s=settings.drain_s,
            stopping=stopping,
        )
    finally:
        await reader.close()
        await writer.close()
        await shop.close()
        await redis.aclose()
