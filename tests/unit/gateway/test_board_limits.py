"""How many sales a gateway asks Redis about at a time: random ids must not use up its connections."""

import asyncio
from typing import Any, cast

import pytest

from fairline.errors import OverloadedError
from fairline.store.room import Room
from gateway.board import MOST_ASKING, Board
from tests.support.stack import eventually


class SlowRoom:
    """Knows no sale, and says so when it may."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked: list[str] = []

    async def look(self, sale_id: str) -> None:
        self.asked.append(sale_id)
        await self.go.wait()

    async def named_skus(self, sale_id: str) -> None:
        """Nothing."""


async def test_more_sales_than_may_be_asked_about_are_refused_and_those_asked_about_already_are_not() -> None:
    room = SlowRoom()
    board = Board(cast(Room, cast(Any, room)), frame_s=0.1, most_sales=10)
    asking = [asyncio.create_task(board.sale(f"sale-{n}")) for n in range(MOST_ASKING)]
    await eventually(lambda: len(room.asked) == MOST_ASKING)
    with pytest.raises(OverloadedError):
        await board.sale("one-more")
    again = asyncio.create_task(board.sale("sale-0"))
    room.go.set()
    assert await asyncio.gather(*asking, again) == [None] * (MOST_ASKING + 1)
    assert len(room.asked) == MOST_ASKING
    assert await board.sale("one-more") is None
