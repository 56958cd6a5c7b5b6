"""How many sales a gateway asks Redis about at a time: random ids must not use up its connections, or a turn."""

import asyncio
from typing import Any, cast

import pytest

from fairline.errors import OverloadedError
from fairline.store.replies import LookReply
from fairline.store.room import Room
from gateway.board import MOST_STRANGERS, Board
from tests.support.stack import eventually

KNOWN = "known"
FIELDS = {"state": "open", "rate": "", "opens_at_ms": "", "when_sold_out": "close_line"}


class SlowRoom:
    """Knows one sale, and says so, or that it knows none, when it may."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked: list[str] = []

    async def look(self, sale_id: str) -> LookReply | None:
        self.asked.append(sale_id)
        await self.go.wait()
        return LookReply("DONE", 0, FIELDS, []) if sale_id == KNOWN else None

    async def named_skus(self, sale_id: str) -> tuple[tuple[str, str], ...] | None:
        return () if sale_id == KNOWN else None


def a_board(room: SlowRoom) -> Board:
    return Board(cast(Room, cast(Any, room)), frame_s=0.0, most_sales=10)


async def test_more_strange_sales_than_may_be_asked_about_are_refused_and_those_asked_about_already_are_not() -> None:
    room = SlowRoom()
    board = a_board(room)
    asking = [asyncio.create_task(board.sale(f"sale-{n}")) for n in range(MOST_STRANGERS)]
    await eventually(lambda: len(room.asked) == MOST_STRANGERS)
    with pytest.raises(OverloadedError):
        await board.sale("one-more")
    again = asyncio.create_task(board.sale("sale-0"))
    room.go.set()
    assert await asyncio.gather(*asking, again) == [None] * (MOST_STRANGERS + 1)
    assert len(room.asked) == MOST_STRANGERS
    assert await board.sale("one-more") is None


async def test_a_sale_that_is_known_is_asked_about_however_many_invented_ones_are() -> None:
    room = SlowRoom()
    board = a_board(room)
    room.go.set()
    assert await board.sale(KNOWN) is not None
    room.go.clear()
    invented = [asyncio.create_task(board.sale(f"sale-{n}")) for n in range(MOST_STRANGERS)]
    await eventually(lambda: len(room.asked) == 1 + MOST_STRANGERS)
    asking = asyncio.create_task(board.sale(KNOWN))  # its frame is over
    await eventually(lambda: room.asked.count(KNOWN) == 2)
    room.go.set()
    assert await asking is not None
    await asyncio.gather(*invented)
