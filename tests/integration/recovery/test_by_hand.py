"""``fairline recover``: shows what a rebuild would do, and does it when it is told to."""

import json
from typing import Any

import asyncpg
import pytest

from tests.support.commands import fairline
from tests.support.recovering import World
from tests.support.sale_facts import faults_of


@pytest.fixture
def here(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> tuple[str, ...]:
    """Options of a command that finds the servers of this test by the environment."""
    monkeypatch.setenv("FAIRLINE_REDIS_URL", world.running.redis_url)
    monkeypatch.setenv("FAIRLINE_KAFKA", world.kafka)
    monkeypatch.setenv("FAIRLINE_ORDER_SERVICE_URL", world.order_service_url)
    monkeypatch.setenv("FAIRLINE_ADMISSION_RECOVER_DRAIN_S", "1")
    return ("--data", str(tmp_path))


async def test_it_shows_what_it_would_do_and_changes_nothing_until_it_is_told_to(
    world: World, here: tuple[str, ...]
) -> None:
    sale = await world.sale(5)
    [ada] = await sale.reserved("ada")
    await world.send(sale)
    await world.ended(sale, 1)
    bob, cy = await sale.join("bob", "cy")
    lease, _ = await sale.admit(1)
    await sale.reserve(lease, bob)
    before = {key: await sale.raw.dump(key) async for key in sale.raw.scan_iter("*")}

    shown = await fairline("recover", sale.id, "--json", *here)
    assert shown.code == 0, shown.err
    told = {"verdicts": 1, "restored": 0, "overruled": 1, "kept": 1, "in_line": 1, "free": {"seat": 3}}
    assert json.loads(shown.out) == {"sale_id": sale.id, "done": False, "halted": False, "epoch": 0, **told}
    assert "--yes does it" in (await fairline("recover", sale.id, *here)).out
    assert {key: await sale.raw.dump(key) async for key in sale.raw.scan_iter("*")} == before

    done = await fairline("recover", sale.id, "--json", "--yes", *here)
    assert done.code == 0, done.err
    assert json.loads(done.out) == {"sale_id": sale.id, "done": True, "halted": False, "epoch": 1, **told}
    assert await sale.states(ada, bob, cy) == ["CONFIRMED", "RESERVED", "WAITING"]
    assert await faults_of(sale) == []


async def test_a_sale_that_is_being_rebuilt_or_that_nobody_knows_is_refused_in_a_sentence(
    world: World, here: tuple[str, ...]
) -> None:
    sale = await world.sale(5)
    await world.restart()
    await world.attempt(sale)
    busy = await fairline("recover", sale.id, "--yes", *here)
    assert (busy.code, busy.err) == (1, "a controller is rebuilding this sale already\n")
    for nobodys in ("nowhere", "no where", "../nowhere?"):
        nowhere = await fairline("recover", nobodys, *here)
        assert nowhere.code == 1
        assert nowhere.err.startswith("Postgres does not know this sale")


async def test_c2_a_sale_in_the_archive_is_not_brought_back(
    world: World, here: tuple[str, ...], postgres_dsn: str
) -> None:
    sale = await world.sale(5)
    connection = await asyncpg.connect(postgres_dsn)
    try:
        archived = (
            "UPDATE sales SET state = 'archived', definition = jsonb_set(definition::jsonb, '{state}', '\"archived\"')"
        )
        await connection.execute(f"{archived} WHERE sale_id = $1", sale.id)
    finally:
        await connection.close()
    refused = await fairline("recover", sale.id, "--yes", *here)
    assert refused.code == 1
    assert refused.err.startswith("This sale is archived")
    await sale.ask("bob")  # not even halted


async def test_an_order_service_that_is_away_is_named(
    world: World, here: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await world.sale(5)
    monkeypatch.setenv("FAIRLINE_ORDER_SERVICE_URL", "http://127.0.0.1:9")
    ran = await fairline("recover", sale.id, *here)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("the order service at http://127.0.0.1:9 cannot be asked: Cannot connect")
