"""The composition root of the order service: what is chosen here is what tests replace."""

import asyncio
from collections.abc import Callable

from fairline import events
from fairline.runtime.health import Health, HttpServer
from fairline.runtime.metrics import Metrics
from fairline.runtime.services import run
from fairline.stream.reader import EventReader
from fairline.stream.topics import order_service_group
from fairline.stream.writer import EventWriter
from order_service.attempts import Attempts
from order_service.collector import Collector
from order_service.handling import Handler
from order_service.letter_calls import LetterCalls
from order_service.letters import Letters
from order_service.orders import Orders
from order_service.postgres import Postgres
from order_service.reads import Reads
from order_service.sales import Sales
from order_service.settings import OrderServiceSettings
from order_service.tickets import Tickets
from order_service.writer import Writer


def a_reader(settings: OrderServiceSettings, topic: str, name: str) -> EventReader:
    """The reader of one topic, in the topic's own group."""
    group = order_service_group(topic)
    return EventReader(settings.kafka, [topic], group, name, session_s=settings.kafka_session_s)


async def start(
    settings: OrderServiceSettings,
    stopping: asyncio.Event | None = None,
    *,
    make_reader: Callable[[OrderServiceSettings, str, str], EventReader] = a_reader,
    make_publisher: Callable[[str, str], EventWriter] = EventWriter,
) -> None:
    """Write orders, sales and histories until stopped."""
    name = settings.process or "order_service"
    metrics = Metrics()
    postgres = Postgres(settings, name)
    publisher = make_publisher(settings.kafka, name)
    attempts = Attempts(postgres)
    handlers: dict[str, Handler] = {
        events.ORDERS: Orders(postgres, metrics),
        events.SALES: Sales(postgres),
        events.TICKETS: Tickets(postgres),
    }
    for topic in handlers:
        metrics.dead_letters.labels(topic)  # at zero, so that an alert sees the first one
    readers = {topic: make_reader(settings, topic, name) for topic in handlers}
    writers = [
        Writer(
            handlers[topic],
            reader=readers[topic],
            publisher=publisher,
            attempts=attempts,
            settings=settings,
            metrics=metrics,
        )
        for topic in handlers
    ]
    health = Health(
        metrics,
        {
            "postgres": postgres.check,
            "kafka": publisher.check,
            **{reader_topic: reader.check for reader_topic, reader in readers.items()},
        },
    )
    letters = Letters(
        postgres,
        Collector(postgres, settings.kafka, name),
        publisher,
        publish_s=settings.publish_timeout_ms / 1000,
    )
    http = HttpServer(
        LetterCalls(postgres, letters, Reads(postgres, health)),
        host=settings.internal_host,
        port=settings.internal_port,
        drain_s=min(settings.drain_s, 3.0),
    )
    try:
        await run([*writers, http], drain_s=settings.drain_s, stopping=stopping)
    finally:
        await asyncio.gather(*(reader.close() for reader in readers.values()))
        await publisher.close()
        await postgres.close()
