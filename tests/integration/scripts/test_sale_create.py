"""sale_create.lua and sale_change.lua: a sale is written once, changed by legal moves, and Postgres is told of each."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from fairline.events import AnyFact, SaleChanged
from fairline.sale import Validator
from fairline.store import keys as names
from fairline.store.sales import Action, Due
from tests.integration.scripts.conftest import NewSale
from tests.support.sale import SaleDriver


@pytest.fixture
async def draft(redis: Redis) -> AsyncIterator[SaleDriver]:
    """A sale that was just created."""
    sale = SaleDriver(
        redis,
        {"chair": 3, "table": 0},
        per_buyer_limit=2,
        rate_per_s=2.5,
        capacity=7,
        message="Grüße",
        when_sold_out="keep_line",
        validator=Validator(kind="simulated", decline_share=0.1, seed=5),
    )
    assert await sale.create() == "CREATED"
    yield sale
    await sale.remove()


def _changed(facts: list[AnyFact]) -> list[SaleChanged]:
    assert all(isinstance(fact, SaleChanged) for fact in facts)
    return [fact for fact in facts if isinstance(fact, SaleChanged)]


async def test_a_new_sale_is_a_draft_with_all_that_was_said_of_it(draft: SaleDriver) -> None:
    view = await draft.sales.get(draft.id)
    assert view is not None
    assert view.definition == draft.definition
    assert (view.state, view.epoch, view.version, view.acked, view.arrivals) == ("draft", 0, 1, 0, 0)
    assert await draft.redis.sismember(names.SALES, draft.id)


async def test_postgres_is_told_of_the_whole_sale(draft: SaleDriver) -> None:
    [fact] = _changed(await draft.relay())
    assert (fact.sale_id, fact.version, fact.epoch, fact.action, fact.state) == (draft.id, 1, 0, "create", "draft")
    assert (fact.per_buyer_limit, fact.rate_per_s, fact.capacity, fact.message) == (2, 2.5, 7, "Grüße")
    assert (fact.opens_at_ms, fact.ends_at_ms, fact.when_sold_out) == (None, None, "keep_line")
    assert fact.created_at_ms == fact.at_ms
    assert [(item.sku, item.name, item.stock, item.high, item.version, item.withdrawn) for item in fact.items] == [
        ("chair", "Chair", 3, 3, 0, ()),
        ("table", "Table", 0, 0, 0, ()),
    ]


async def test_creating_it_again_changes_nothing(draft: SaleDriver) -> None:
    other = SaleDriver(draft.redis, {"chair": 99, "table": 0}, sale_id=draft.id)
    assert await other.create() == "EXISTS"
    assert await draft.item("stock") == 3
    assert len(await draft.relay()) == 1


async def test_o4_a_sale_opens_only_after_postgres_knows_it(draft: SaleDriver) -> None:
    assert (await draft.change("open")).word == "NOT_ACKNOWLEDGED"
    assert (await draft.look()).meta["state"] == "draft"
    await draft.acknowledge()
    reply = await draft.change("open")
    assert (reply.word, reply.state, reply.version) == ("CHANGED", "open", 2)
    assert [fact.action for fact in _changed(await draft.relay())] == ["create", "open"]


CLOCK: tuple[tuple[Action, Due], ...] = (("open", "opens_at_ms"), ("end", "ends_at_ms"))
MOVES: dict[str, dict[Action, str | None]] = {
    "draft": {"open": "open", "pause": None, "resume": None, "end": "ended"},
    "open": {"open": "open", "pause": "paused", "resume": "open", "end": "ended"},
    "paused": {"open": None, "pause": "paused", "resume": "open", "end": "ended"},
    "ended": {"open": None, "pause": None, "resume": None, "end": "ended"},
    "closed": {"open": None, "pause": None, "resume": None, "end": "closed"},
}


@pytest.mark.parametrize("state", MOVES)
async def test_from_each_state_only_legal_moves_are_made(draft: SaleDriver, state: str) -> None:
    await draft.acknowledge()
    for action, to in MOVES[state].items():
        await draft.redis.hset(draft.keys.meta, "state", state)
        before = int(await draft.raw.hget(draft.keys.meta, "version"))
        reply = await draft.change(action)
        assert reply.word == ("ILLEGAL" if to is None else "SAME" if to == state else "CHANGED"), (state, action)
        assert reply.state == (to or state)
        assert reply.version == before + (reply.word == "CHANGED")
        assert (await draft.look()).meta["state"] == (to or state)


async def test_e4_the_clock_of_a_sale_acts_only_on_a_time_that_has_come(draft: SaleDriver) -> None:
    await draft.acknowledge()
    for at_ms in ("", str(2**53)):
        await draft.redis.hset(draft.keys.meta, mapping={"opens_at_ms": at_ms, "ends_at_ms": at_ms})
        for action, due in CLOCK:
            reply = await draft.sales.change_when_due(draft.id, action, due)
            assert reply is not None
            assert (reply.word, reply.state, reply.version) == ("NOT_DUE", "draft", 1)
    await draft.redis.hset(draft.keys.meta, mapping={"opens_at_ms": "1", "ends_at_ms": "1"})
    for action, due in CLOCK:
        for word in ("CHANGED", "SAME"):
            reply = await draft.sales.change_when_due(draft.id, action, due)
            assert reply is not None
            assert reply.word == word
    made = [(fact.action, fact.reason) for fact in _changed(await draft.relay())]
    assert made == [("create", ""), ("open", "opens_at"), ("end", "ends_at")]


async def test_an_operator_changes_pace_and_message_at_any_time_before_the_end(draft: SaleDriver) -> None:
    reply = await draft.patch(rate_per_s=None, capacity=None, message="bald")
    assert (reply.word, reply.state, reply.version) == ("CHANGED", "draft", 2)
    view = await draft.sales.get(draft.id)
    assert view is not None
    assert (view.definition.rate_per_s, view.definition.capacity, view.definition.message) == (None, None, "bald")
    _, fact = _changed(await draft.relay())
    assert (fact.action, fact.rate_per_s, fact.capacity, fact.message) == ("patch", None, None, "bald")


async def test_a_patch_that_changes_nothing_tells_nobody(draft: SaleDriver) -> None:
    nothing: tuple[dict[str, str], ...] = ({}, {"message": "Grüße"})
    for fields in nothing:
        reply = await draft.sales.patch(draft.id, fields)
        assert reply is not None
        assert (reply.word, reply.version) == ("SAME", 1)
    assert len(await draft.relay()) == 1


@pytest.mark.parametrize("state", ["ended", "closed"])
async def test_nothing_is_patched_after_the_end(draft: SaleDriver, state: str) -> None:
    await draft.redis.hset(draft.keys.meta, "state", state)
    assert (await draft.patch(message="zu spät")).word == "ILLEGAL"
    assert (await draft.look()).meta["message"] == "Grüße"


async def test_an_unknown_action_is_an_error_before_anything_is_written(draft: SaleDriver) -> None:
    with pytest.raises(Exception, match="nil value"):
        await draft.change("explode")  # type: ignore[arg-type]  # the point
    assert (await draft.look()).meta["version"] == "1"


async def test_a_sale_of_fifty_items_and_long_names_is_written_whole(redis: Redis, new_sale: NewSale) -> None:
    sale = await new_sale({f"sku-{n}": n for n in range(50)}, name="Ä" * 200, message="m" * 500)
    created, opened = _changed(await sale.relay())
    assert [item.stock for item in created.items] == list(range(50))
    assert (opened.name, opened.message) == ("Ä" * 200, "m" * 500)
