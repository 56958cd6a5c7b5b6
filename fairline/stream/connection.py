"""Starts and ends the clients of the Kafka library so that no connection stays open, wherever a wait is cut short.

    await start(client)      # may be cancelled; stop() must follow then too
    await stop(client)

The library forgets the connection over which it asks for its first metadata when it is cancelled there, and all that
it has when it is cancelled while it stops. So neither is ever cancelled from outside: each runs in a task of its own,
which goes on behind a caller who waits no longer, as long as the library's time limits let it.
"""

import asyncio
import contextlib
from typing import Any, Final, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

Client: TypeAlias = AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient

CLOSE_S: Final = 2.0
# How long an end may take, behind the back of everybody. A producer's waits for the answer of a broker that hangs; a
# member of a group must not join again meanwhile.
END_S: Final = {AIOKafkaProducer: 15.0, AIOKafkaConsumer: CLOSE_S, AIOKafkaAdminClient: CLOSE_S}
BEGUN_S: Final = 0.05  # between two looks whether a client that is not wanted any more has its metadata

_ending: Final[dict[Client, asyncio.Task[None]]] = {}


async def start(client: Client) -> None:
    """Connect it; raises what the library raises. Cancelled, it is ended at once, as by ``end``."""
    starting = asyncio.create_task(client.start(), name="start a client of Kafka")  # type: ignore[no-untyped-call]
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        end(client, starting)
        raise


async def stop(client: Client) -> None:
    """End it, and wait for that ``CLOSE_S`` at most. A second call does nothing more."""
    await asyncio.wait({end(client)}, timeout=CLOSE_S)


def end(client: Client, starting: asyncio.Task[Any] | None = None) -> asyncio.Task[None]:
    """End it in a task, which never fails: what it has queued is dropped, and its connections are closed."""
    ending = _ending.get(client)
    if ending is None:
        ending = _ending[client] = asyncio.create_task(_end(client, starting), name="end a client of Kafka")
        ending.add_done_callback(lambda _: _ending.pop(client, None))
    return ending


async def _end(client: Client, starting: asyncio.Task[Any] | None) -> None:
    connections = client.client if isinstance(client, AIOKafkaProducer) else client._client  # noqa: SLF001 - no other way
    if starting is not None:
        while not starting.done() and connections._sync_task is None:  # noqa: SLF001 - it is set with the first metadata
            await asyncio.wait({starting}, timeout=BEGUN_S)
        starting.cancel()
        await asyncio.wait({starting})
    if isinstance(client, AIOKafkaProducer):
        # stop() alone waits until its queue is sent, which may be never.
        client._message_accumulator.fail_all(KafkaError("the producer was thrown away"))  # noqa: SLF001 - see above
    try:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(END_S[type(client)]):
                await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())  # type: ignore[no-untyped-call]
    finally:
        with contextlib.suppress(Exception):
            await connections.close()  # stop() leaves them open where it was cut short
