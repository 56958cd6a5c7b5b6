"""News of tickets: a connection to Redis that only seems to be there is noticed, and another is opened."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from fairline.runtime.services import cancelled
from fairline.store.client import connect
from fairline.store.moved import Moved
from tests.support.sale import SaleDriver
from tests.support.stack import eventually


class Heard:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.subscriptions = 0
        self.errors: list[Exception] = []
        self.tickets: list[str] = []

    def subscribed(self, _sale_id: str) -> None:
        self.subscriptions += 1

    def moved(self, _sale_id: str, ticket_ids: list[str]) -> None:
        self.tickets += ticket_ids

    def lost(self, error: Exception) -> None:
        self.errors.append(error)


class Line:
    """The way to Redis, which may go silent without anybody being told: no byte, no end."""

    def __init__(self, redis_url: str) -> None:
        redis = urlsplit(redis_url)
        self._redis = (redis.hostname, redis.port)
        self._silent: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    def go_silent(self) -> None:
        """All connections of now; the next one is well."""
        self._silent |= self._writers

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, towards = await asyncio.open_connection(*self._redis)
        self._writers |= {writer, towards}
        await asyncio.gather(self._pump(reader, towards), self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if writer not in self._silent:
                    writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[tuple[Line, str]]:
    carrier = Line(redis_url)
    server = await asyncio.start_server(carrier.carry, "127.0.0.1", 0)
    yield carrier, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    server.close()


async def test_a_connection_that_went_silent_is_opened_again_and_what_was_missed_is_made_up_for(
    sale: SaleDriver, line: tuple[Line, str]
) -> None:
    carrier, url = line
    redis, heard = connect(url, name="test"), Heard()
    moved = Moved(redis, ping_s=0.3)
    moved.follow(sale.id)
    hearing = asyncio.create_task(moved.run(heard))
    try:
        await eventually(lambda: heard.subscriptions == 1)
        carrier.go_silent()
        await eventually(lambda: heard.subscriptions == 2)
        assert "no answer to a ping" in str(heard.errors[0]), "whoever is told this reads everything anew"
        [ticket_id] = await sale.join("anna")
        await sale.admit()
        await eventually(lambda: ticket_id in heard.tickets)
    finally:
        await cancelled(hearing)
        await redis.aclose()
