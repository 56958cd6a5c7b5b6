"""When a connection that says nothing is given up: after a ping without an answer, and not for being quiet."""

from typing import Any, cast

import pytest
from redis.asyncio import Redis

from fairline.store.client import connect
from fairline.store.moved import Listener, Moved


class Quiet:
    """A connection on which this is heard, one a read; nothing heard is a read that took all of its time."""

    def __init__(self, *heard: list[bytes] | None) -> None:
        self.heard = list(heard)
        self.sent: list[str] = []

    async def read_response(self, **_: Any) -> list[bytes] | None:
        return self.heard.pop(0)

    async def send_command(self, *words: str) -> None:
        self.sent.extend(words)


@pytest.fixture
def moved() -> Moved:
    redis: Redis = connect("redis://127.0.0.1:1/0", name="test")
    return Moved(redis)


async def test_a_ping_without_an_answer_ends_it_and_each_answer_begins_anew(moved: Moved) -> None:
    connection = Quiet(None, [b"pong", b""], None, [b"pong", b""], None, None)
    with pytest.raises(TimeoutError, match="no answer to a ping in 5 s"):
        await moved._hear(connection, cast(Listener, None))
    assert connection.heard == []
    assert connection.sent == ["PING"] * 3
