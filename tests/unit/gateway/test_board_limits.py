"""What the board keeps, for how long, and what it asks: random ids must not use up connections, a turn, or memory."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fairline.errors import OverloadedError
from fairline.store.replies import LookReply
from fairline.store.room import Room
from gateway import board as module
from gateway.board import MOST_STRANGERS, UNKNOWN_S, Board
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


def a_board(room: Any, *, frame_s: float = 0.0) -> Board:
    return Board(cast(Room, room), frame_s=frame_s, most_sales=10)


class ATenSecondRoom:
    """Takes ten seconds for each answer, by a clock that it moves itself; knows the sales that it is told of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *sales: str) -> None:
        self.sales = set(sales)
        self.now = 1000.0
        self.asked: list[str] = []
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    async def look(self, sale_id: str) -> LookReply | None:
        self.asked.append(sale_id)
        self.now += 10
        return LookReply("DONE", 0, FIELDS, []) if sale_id in self.sales else None

    async def named_skus(self, sale_id: str) -> tuple[tuple[str, str], ...] | None:
        return () if sale_id in self.sales else None


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


async def test_e3_what_is_on_the_board_is_as_old_as_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    room = ATenSecondRoom(monkeypatch, KNOWN)
    board = a_board(room, frame_s=15)
    assert await board.sale(KNOWN) is await board.sale(KNOWN), "it is ten seconds old"
    assert board.fresh(KNOWN) is not None
    room.now += 5
    assert board.fresh(KNOWN) is None, "counted from the answer it would be five seconds old, and told as if it were"
    await board.sale(KNOWN)
    assert room.asked == [KNOWN, KNOWN]


async def test_a_sale_that_nobody_has_is_asked_about_again_after_a_moment_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "UNKNOWN_S", 10 + UNKNOWN_S)  # this Redis takes ten seconds to say so
    room = ATenSecondRoom(monkeypatch)
    board = a_board(room, frame_s=15)
    assert [await board.sale("later"), await board.sale("later")] == [None, None]
    assert room.asked == ["later"]
    room.sales.add("later")
    room.now += UNKNOWN_S
    assert await board.sale("later") is not None


async def test_neither_sales_nor_invented_ids_are_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_UNKNOWN", 7)
    room = ATenSecondRoom(monkeypatch, *(f"sale-{n}" for n in range(20)))
    board = a_board(room)
    for n in range(20):
        await board.sale(f"invented-{n}")
        await board.sale(f"sale-{n}")
    assert list(board._seen) == [f"sale-{n}" for n in range(10, 20)]
    assert list(board._unknown) == [f"invented-{n}" for n in range(13, 20)]


async def test_what_no_sale_can_be_called_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    room = ATenSecondRoom(monkeypatch)
    assert await a_board(room).sale("x}:tickets") is None
    assert room.asked == []


async def test_who_goes_away_while_it_is_asked_takes_the_answer_from_nobody() -> None:
    room = SlowRoom()
    board = a_board(room)
    gone, stays = (asyncio.create_task(board.sale(KNOWN)) for _ in range(2))
    await eventually(lambda: bool(room.asked))
    gone.cancel()
    await asyncio.wait({gone})
    room.go.set()
    assert await stays is not None
    assert room.asked == [KNOWN]
