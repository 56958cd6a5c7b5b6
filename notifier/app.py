"""The notifier put together: the only place that chooses concrete things."""

import asyncio
from collections.abc import Callable

from fairline.runtime import logs, services
from fairline.runtime.health import Health, HttpServer
from fairline.runtime.metrics import Metrics
from fairline.runtime.token_keys import token_keys
from fairline.store.client import connect
from fairline.store.moved import Moved
from fairline.store.room import Room
from notifier.hub import Hub
from notifier.progress import Progress
from notifier.results import Results
from notifier.server import NotifierServer
from notifier.settings import NotifierSettings
from notifier.workers import Workers


async def start(
    settings: NotifierSettings,
    *,
    metrics: Metrics | None = None,
    stopping: asyncio.Event | None = None,
    listening: Callable[[int], None] = lambda _: None,
) -> None:
    """Run a notifier to its end; ``listening`` is told the port once clients may come."""
    metrics = metrics or Metrics()
    keys = token_keys(settings, metrics)
    name = settings.process or "notifier"
    redis = connect(settings.redis_url, name=name, timeout_s=settings.redis_timeout_s)
    room = Room(redis)
    hub = Hub()
    moved = Moved(redis)
    progress = Progress(room, metrics, settings)
    results = Results(room, hub, metrics, settings)
    health = Health(metrics, {"redis": lambda: redis.eval("return 1", 0)})

    def drain() -> None:
        health.draining = True

    hub.watch(
        first=lambda audience: moved.follow(audience.sale_id), last=lambda audience: moved.forget(audience.sale_id)
    )
    try:
        await services.run(
            [
                NotifierServer(hub, keys, metrics, settings, listening=listening, draining=drain),
                Workers(hub, [results.work, progress.work]),
                services.Endless(lambda: moved.run(results), name="moved"),
                HttpServer(health, host=settings.internal_host, port=settings.internal_port, drain_s=settings.drain_s),
            ],
            drain_s=settings.drain_s,
            stopping=stopping,
        )
    finally:
        await redis.aclose()
        logs.get(__name__).info("stopped")
