"""No connection to Kafka stays open, wherever a start or a stop is cut short. The broker is ours, and hangs."""

import asyncio
import gc
import struct
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from fairline.events import ORDERS
from fairline.stream import connection
from fairline.stream.connection import Client, start, stop
from fairline.stream.progress import ends_of
from tests.support.stack import eventually

METADATA: Final = 3
API_VERSIONS: Final = 18
WITHIN_S: Final = 1.0  # what a client gives the broker to answer


class Broker:
    """Says what it can do, takes the question for metadata, and then is silent, or names itself if it ``answers``."""

    def __init__(self) -> None:
        self.port = 0
        self.open = 0
        self.answers = False
        self.asked = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.open += 1
        try:
            while True:
                (length,) = struct.unpack(">i", await reader.readexactly(4))
                kind, _, number = struct.unpack(">hhi", (await reader.readexactly(length))[:8])
                if kind == API_VERSIONS:
                    known = [(each, 0, 0) for each in (METADATA, API_VERSIONS)]
                    answer = struct.pack(">hi", 0, len(known)) + b"".join(struct.pack(">hhh", *each) for each in known)
                else:
                    self.asked.set()
                    if not self.answers:
                        continue
                    answer = struct.pack(">iih9sii", 1, 1, 9, b"127.0.0.1", self.port, 0)  # one broker, no topic
                writer.write(struct.pack(">ii", len(answer) + 4, number) + answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    @property
    def address(self) -> str:
        """As clients want it."""
        return f"127.0.0.1:{self.port}"


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    broker = Broker()
    server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    async with server:
        yield broker


CLIENTS: Final[dict[str, Callable[[str], Client]]] = {
    "consumer": lambda at: AIOKafkaConsumer(bootstrap_servers=at, request_timeout_ms=round(WITHIN_S * 1000)),
    "producer": lambda at: AIOKafkaProducer(bootstrap_servers=at, request_timeout_ms=round(WITHIN_S * 1000)),
    "admin": lambda at: AIOKafkaAdminClient(bootstrap_servers=at, request_timeout_ms=round(WITHIN_S * 1000)),
}


async def nothing_stays_open(broker: Broker) -> None:
    """Closed by whoever opened it, not by the collector of garbage, which would warn."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    assert not [each for each in said if "Unclosed" in str(each.message)]
    assert await eventually(lambda: broker.open == 0)


@pytest.mark.parametrize("kind", CLIENTS)
async def test_a_start_that_is_cancelled_while_the_broker_is_asked_closes_its_connection(
    broker: Broker, kind: str
) -> None:
    client = CLIENTS[kind](broker.address)
    starting = asyncio.create_task(start(client))
    await broker.asked.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await stop(client)
    await nothing_stays_open(broker)


async def test_a_look_that_is_cancelled_again_and_again_closes_its_connection(broker: Broker) -> None:
    looking = asyncio.create_task(ends_of(broker.address, [ORDERS], within_s=WITHIN_S))
    await broker.asked.wait()
    while not looking.done():
        looking.cancel()
        await asyncio.wait({looking}, timeout=0.01)
    assert looking.cancelled()
    await nothing_stays_open(broker)


@pytest.mark.parametrize(("kind", "part"), [("consumer", "_coordinator"), ("producer", "_sender")])
async def test_a_stop_that_the_broker_holds_up_closes_all_connections(
    broker: Broker, kind: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.answers = True
    client = CLIENTS[kind](broker.address)
    await start(client)
    held_up = asyncio.Event()

    async def for_ever() -> None:
        held_up.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(getattr(client, part), "close", for_ever)
    monkeypatch.setitem(connection.END_S, type(client), 0.1)
    connections = client.client if isinstance(client, AIOKafkaProducer) else client._client
    await connections.fetch_all_metadata()  # over a connection that lasts, beside the one of the start
    assert broker.open
    stopping = asyncio.create_task(stop(client))
    await held_up.wait()
    while not stopping.done():
        stopping.cancel()
        await asyncio.wait({stopping}, timeout=0.01)
    await nothing_stays_open(broker)
