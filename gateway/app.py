"""The composition root of the gateway: the only file here that chooses concrete things.

Several copies may run at once: what they keep is a cache of a frame, the counts of 50 ms and the joins of one turn of
the loop; all that decides is in Redis.
"""

import asyncio
from importlib.metadata import version
from typing import Final

import msgspec
from litestar import Litestar, Response, get
from litestar.types import ControllerRouterHandler

from fairline.runtime import logs
from fairline.runtime.health import Health, HttpServer
from fairline.runtime.metrics import Metrics
from fairline.runtime.open_files import most_connections
from fairline.runtime.services import run
from fairline.runtime.settings import SettingsError
from fairline.runtime.token_keys import token_keys
from fairline.runtime.wire_limits import limited
from fairline.store.client import Redis, check, connect, refuse_unfit
from fairline.store.operators import Operators
from fairline.store.room import Room
from gateway.answers import EXCEPTION_HANDLERS, answer
from gateway.auth import Keyring
from gateway.board import Board
from gateway.cors import Cors
from gateway.door import Door
from gateway.front import Front, request_ids
from gateway.joins import Joins
from gateway.openapi import OPT, Doc, document
from gateway.records import Records
from gateway.routes.buyers import buyers
from gateway.routes.dead_letters import dead_letters
from gateway.routes.keys import keys
from gateway.routes.operators import operators
from gateway.routes.pages import pages
from gateway.routes.reports import reports
from gateway.sale_desk import SaleDesk
from gateway.settings import GatewaySettings
from gateway.tallies import Tallies
from gateway.tickets import Tickets

_MOST_CONNECTIONS: Final = 32


class Gateway:
    """Everything a gateway is made of, on one Redis. ``app`` is the ASGI application."""

    def __init__(self, settings: GatewaySettings, redis: Redis) -> None:
        self.settings = settings
        self.metrics = Metrics()
        room = Room(redis)
        tokens = token_keys(settings, self.metrics)
        board = Board(room, frame_s=settings.frame_ms / 1000, most_sales=settings.cached_sales)
        first = settings.operator_key
        self.stored = Operators(redis)
        self.tallies = Tallies(room)
        self.records = Records(settings.order_service_url, timeout_s=settings.order_service_timeout_s)
        new_id = request_ids()
        self.door = Door(
            settings.max_requests,
            known=board.knows,
            new_id=new_id,
            shared=bool(settings.origins),
            metrics=self.metrics,
        )
        self.joins = Joins(room, board, self.tallies, tokens=tokens, metrics=self.metrics, settings=settings)
        self.tickets = Tickets(room, board, tokens, settings)
        self.health = Health(self.metrics, {"redis": lambda: check(redis)})
        keyring = Keyring(self.stored, first.get_secret_value() if first else None)
        desk = SaleDesk(room, acknowledge_s=settings.acknowledge_s)
        body_timeout_s = settings.body_timeout_s
        self.litestar = Litestar(
            [
                *buyers(board, self.joins, self.tickets),
                *operators(keyring, desk, body_timeout_s=body_timeout_s),
                *reports(keyring, desk, room, self.tallies, self.records),
                *dead_letters(keyring, room, self.records, body_timeout_s=body_timeout_s),
                *keys(keyring, self.stored, body_timeout_s=body_timeout_s),
                *pages(board, notifier_url=settings.notifier_url),
                self._document(),
            ],
            exception_handlers=EXCEPTION_HANDLERS,
            openapi_config=None,
            logging_config=None,
            request_max_body_size=None,  # ours are smaller and per call (bodies)
            debug=False,
        )
        self.document = document(self.litestar, version=version("fairline"))
        self.app = Front(
            self.litestar,
            self.joins,
            self.health,
            door=self.door,
            new_id=new_id,
            cors=Cors(settings.origins),
            metrics=self.metrics,
        )
        self.protocol = limited(door=self.door, most=most_connections(settings.max_connections))

    def _document(self) -> ControllerRouterHandler:
        doc = Doc(
            tag="pages",
            summary="This document",
            who="anybody",
            answers={200: ("application/json", "OpenAPI 3.1")},
        )

        @get("/openapi.json", opt={OPT: doc})
        async def show_document() -> Response[bytes]:
            return answer(msgspec.json.encode(self.document), headers={"cache-control": "public, max-age=60"})

        return show_document

    def leave(self) -> None:
        """Say that this copy goes: not ready any more, and each answer is the last of its connection."""
        self.health.draining = True

    async def run(self, stopping: asyncio.Event) -> None:
        """As a service: when stopping, finish the joins in hand."""
        await stopping.wait()
        self.leave()
        await self.joins.batcher.drain()
        await self.tickets.leaving.drain()


async def start(settings: GatewaySettings) -> None:
    """Serve until the process is asked to stop."""
    redis = connect(
        settings.redis_url,
        name=settings.process or "gateway",
        timeout_s=settings.redis_timeout_s,
        max_connections=_MOST_CONNECTIONS,
    )
    gateway = Gateway(settings, redis)
    try:
        await refuse_unfit(redis)
        if settings.operator_key is None and not await gateway.stored.all():
            raise SettingsError("FAIRLINE_OPERATOR_KEY: is required as long as no operator's key is stored")
        server = HttpServer(
            gateway.app, host=settings.host, port=settings.port, drain_s=settings.drain_s, protocol=gateway.protocol
        )
        logs.get(__name__).info("serving", host=settings.host, port=settings.port)
        await run(
            [server, gateway, gateway.tallies],
            drain_s=settings.drain_s,
            linger_s=settings.linger_s,
            leaving=gateway.leave,
        )
    finally:
        await gateway.records.close()
        await redis.aclose()
