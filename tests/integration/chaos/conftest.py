"""One whole stack with a proxy on every wire, for all of this folder."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fairline.local.errors import MissingError
from fairline.sale import Item, SaleDefinition
from loadtest.chaos.faults import Scene
from loadtest.chaos.operators import Operators
from loadtest.chaos.world import World
from loadtest.recorder import Recorder
from tests.support.sale import a_name
from tests.support.stack import PATIENCE_S, cannot_be_had, temporary_folder


@pytest.fixture(scope="package")
async def world() -> AsyncIterator[World]:
    """Started once; each test mends what it broke."""
    with temporary_folder() as folder:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            async with World(folder) as world:
                yield world
        except MissingError as error:
            cannot_be_had(str(error))


@pytest.fixture
async def scene(world: World, tmp_path: Path) -> AsyncIterator[Scene]:
    """A sale that is open, and nobody comes."""
    sale = SaleDefinition(
        sale_id=a_name(of="broken"),
        name="A sale in trouble",
        items=(Item(sku="lamp", name="A lamp", stock=10),),
        rate_per_s=20.0,
    )
    with Recorder(tmp_path / "history.jsonl", sale_id=sale.sale_id) as history:
        gateways = [world.url("gateway"), world.url("gateway-2")]
        async with Operators(sale, history, gateways=gateways, key=world.operator_key) as operators:
            await whole(world)
            await operators.begin(within_s=PATIENCE_S)
            yield Scene(world=world, sale=sale, operators=operators, buyers=("anna", "ben", "cleo", "dora"))
    await whole(world)


async def get(url: str, *, key: str = "") -> tuple[int, Any]:
    """Status and body, around everything; a connection of its own."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session,
        session.get(url, headers=headers) as answer,
    ):
        return answer.status, json.loads(await answer.read())


async def lacks(world: World, service: str) -> set[str]:
    """What a service says that it lacks."""
    _, said = await get(f"{world.internal(service)}/readyz")
    return set(said["missing"])


async def whole(world: World) -> None:
    """Wait until every service lacks nothing."""
    assert await world.until_whole(within_s=PATIENCE_S) == []
