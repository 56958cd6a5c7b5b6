"""Hears which tickets moved, for the sales that somebody here asks about: the channels that the scripts publish on.

Owns one connection to Redis and keeps no news: Redis forgets what it published, so whoever was not subscribed has
missed it. That is why a listener is told each time a subscription is confirmed, the first time as after a lost
connection, and must then read what it shows. What it reads from then on is the present state or newer.

One ``run`` at a time. It ends only when it is cancelled; a lost connection is opened again, at most once a second.
What must never happen: a move that is neither told nor followed by ``subscribed``.
"""

import asyncio
import random
from typing import Any, Final, Protocol

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from fairline.store.keys import SaleKeys

# A half-open connection is noticed after twice this time, and what was missed is read then.
PING_S: Final = 5.0
FIRST_WAIT_S: Final = 0.05
LONGEST_WAIT_S: Final = 1.0
CANCEL_AGAIN_S: Final = 0.05

_ids: Final = msgspec.msgpack.Decoder(list[str]).decode


class Listener(Protocol):
    """Whoever wants to hear. None of these may block or raise."""

    def subscribed(self, sale_id: str) -> None:
        """From now on no move is missed; what was read before may be old."""

    def moved(self, sale_id: str, ticket_ids: list[str]) -> None:
        """These tickets have just moved."""

    def lost(self, error: Exception) -> None:
        """The connection is gone; ``subscribed`` follows for each sale when it is back."""


class Moved:
    """The channels of the sales that are followed."""

    def __init__(self, redis: Redis, *, ping_s: float = PING_S) -> None:
        self._pool = redis.connection_pool
        self._ping_s = ping_s
        self._wanted: dict[str, str] = {}
        self._changed = asyncio.Event()

    def follow(self, sale_id: str) -> None:
        """Listen for this sale from now on; a second call changes nothing."""
        self._wanted[SaleKeys(sale_id).moved] = sale_id
        self._changed.set()

    def forget(self, sale_id: str) -> None:
        """Listen for it no longer."""
        self._wanted.pop(SaleKeys(sale_id).moved, None)
        self._changed.set()

    async def run(self, listener: Listener) -> None:
        """Listen until cancelled."""
        wait_s = FIRST_WAIT_S
        while True:
            connection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis ships it so
            try:
                await connection.connect()
                wait_s = FIRST_WAIT_S
                await self._serve(connection, listener)
            except (RedisError, OSError) as error:
                listener.lost(error)
            finally:
                await connection.disconnect(nowait=True)
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - a spread, no secret
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _serve(self, connection: Any, listener: Listener) -> None:
        asking = asyncio.create_task(self._ask(connection), name="subscribing")
        try:
            await self._hear(connection, listener)
        finally:
            # What fails while asking breaks the connection, and that is heard. More than once, because the client
            # awaits asyncio.wait_for, which on Python 3.11 loses a cancellation that comes together with its answer.
            while not asking.done():
                asking.cancel()
                await asyncio.wait({asking}, timeout=CANCEL_AGAIN_S)
            await asyncio.gather(asking, return_exceptions=True)

    async def _ask(self, connection: Any) -> None:
        asked: set[str] = set()
        while True:
            self._changed.clear()
            wanted = set(self._wanted)
            if asked - wanted:
                await connection.send_command("UNSUBSCRIBE", *sorted(asked - wanted))
            if wanted - asked:
                await connection.send_command("SUBSCRIBE", *sorted(wanted - asked))
            asked = wanted
            await self._changed.wait()

    async def _hear(self, connection: Any, listener: Listener) -> None:
        pinged = False
        while True:
            heard = await connection.read_response(timeout=self._ping_s, disconnect_on_error=False)
            if heard is None:
                if pinged:
                    raise TimeoutError(f"no answer to a ping in {self._ping_s:g} s")
                pinged = True
                await connection.send_command("PING")
                continue
            pinged = False
            if isinstance(heard, list) and len(heard) == 3:  # noqa: PLR2004 - kind, channel, data
                self._tell(heard, listener)

    def _tell(self, heard: list[Any], listener: Listener) -> None:
        kind, channel, data = heard
        sale_id = self._wanted.get(channel.decode())
        if sale_id is None:  # forgotten meanwhile
            return
        if kind == b"message":
            try:
                listener.moved(sale_id, _ids(data))
            except msgspec.DecodeError:  # not one of ours published it; reading everything is always right
                listener.subscribed(sale_id)
        elif kind == b"subscribe":
            listener.subscribed(sale_id)
