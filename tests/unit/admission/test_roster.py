"""How many sales one admission process serves."""

import asyncio
from typing import Any, cast

import pytest

from admission import roster
from admission.desk import Desk
from admission.roster import Roster
from fairline.runtime.services import cancelled
from fairline.store.room import Room


class Sales:
    """A Redis in which these are registered."""

    def __init__(self, number: int) -> None:
        self.ids = [f"sale-{n}" for n in range(number)]

    async def sale_ids(self) -> list[str]:
        return self.ids


class EndlessDesk:
    """Of a sale that is open until it is told otherwise."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def run(self, _stopping: asyncio.Event) -> None:
        await self.over.wait()


async def test_more_sales_than_it_serves_wait_until_one_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "MAX_SALES", 2)
    desks: dict[str, EndlessDesk] = {}

    async def open_desk(sale_id: str) -> Desk:
        desks[sale_id] = EndlessDesk()
        return cast(Desk, cast(Any, desks[sale_id]))

    one = Roster(cast(Room, cast(Any, Sales(3))), open_desk)
    assert await one.run_once() == 2
    assert await one.run_once() == 0
    assert set(desks) == {"sale-0", "sale-1"}
    desks["sale-0"].over.set()
    await asyncio.gather(*(task for sale_id, task in one._desks.items() if sale_id == "sale-0"))
    assert await one.run_once() == 1
    assert set(desks) == {"sale-0", "sale-1", "sale-2"}
    await cancelled(*one._desks.values())
