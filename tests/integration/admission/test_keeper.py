"""The keeper on a real Redis: leases that ended, sold out, the end, its clock, sending again."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from admission.keeper import Keeper
from admission.stock import Stock
from fairline import clock
from fairline.errors import FencedError, UnavailableError
from fairline.events import OrderPlaced, SaleChanged, TicketDeclined, TicketLapsed
from fairline.runtime.metrics import Metrics
from fairline.states import SaleState
from fairline.store.room import Room
from fairline.store.sales import Sales, SaleView
from tests.integration.admission.conftest import NewSale
from tests.support.admission import UnsteadyRedis, admission_settings, until
from tests.support.sale import SaleDriver

KeeperOf = Callable[..., Keeper]


@pytest.fixture
def keeper_of(unsteady: UnsteadyRedis, metrics: Metrics) -> KeeperOf:
    def keeper_of(sale: SaleDriver, **settings: object) -> Keeper:
        stock = Stock(unsteady.client, sale.id, sale.skus)
        return Keeper(Sales(Room(unsteady.client)), stock, admission_settings(**settings), metrics)

    return keeper_of


def _count(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def _from_now(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def test_l5_leases_that_ended_go_back_or_lapse(new_sale: NewSale, keeper_of: KeeperOf, metrics: Metrics) -> None:
    sale = await new_sale(9)
    ids = await sale.join("ada", "bob", "cy")
    _, admitted = await sale.admit()
    assert admitted.ids == ids
    await sale.end_leases(*ids[:2])
    keeper = keeper_of(sale, max_tries=2)
    assert await keeper.run_once() == 2
    assert await sale.states(*ids) == ["WAITING", "WAITING", "ADMITTED"]
    await sale.admit()
    await sale.end_leases(*ids[:2])
    assert await keeper.run_once() == 2
    assert await sale.states(*ids) == ["LAPSED", "LAPSED", "ADMITTED"]
    assert _count(metrics, "fairline_reaped_total", sale=sale.id, how="returned") == 2
    assert _count(metrics, "fairline_reaped_total", sale=sale.id, how="lapsed") == 2
    lapsed = [fact for fact in await sale.relay() if isinstance(fact, TicketLapsed)]
    assert sorted(fact.ticket_id for fact in lapsed) == sorted(ids[:2])


async def test_who_could_go_on_is_told_of_an_open_sale_only(
    new_sale: NewSale, keeper_of: KeeperOf, metrics: Metrics
) -> None:
    sale = await new_sale(2)
    await sale.join("ada", "bob", "cy")
    await keeper_of(sale).run_once()
    assert _count(metrics, "fairline_waiting", sale=sale.id) == 3
    assert _count(metrics, "fairline_servable", sale=sale.id) == 2, "units are free for two of them"
    await sale.change("pause")
    await keeper_of(sale).run_once()
    assert _count(metrics, "fairline_waiting", sale=sale.id) == 3
    assert _count(metrics, "fairline_servable", sale=sale.id) == 0


async def test_e2_the_line_is_swept_only_when_the_last_order_is_confirmed(
    new_sale: NewSale, keeper_of: KeeperOf
) -> None:
    sale = await new_sale(1)
    [first] = await sale.reserved("ada")
    rest = await sale.join("bob", "cy")
    keeper = keeper_of(sale)
    assert await keeper.run_once() == 0
    assert await sale.states(*rest) == ["WAITING"] * 2
    await sale.confirm(first)
    assert await keeper.run_once() == 2
    assert await sale.states(first, *rest) == ["CONFIRMED", "SOLD_OUT", "SOLD_OUT"]


async def test_a_sale_opens_and_ends_at_its_times(new_sale: NewSale, keeper_of: KeeperOf) -> None:
    sale = await new_sale(5, draft=True, opens_at=_from_now(-1), ends_at=_from_now(3600))
    keeper = keeper_of(sale)
    await keeper.run_once()
    assert keeper.view is not None
    assert keeper.view.state is SaleState.DRAFT, "Postgres does not know it yet (O4)"
    await sale.acknowledge()

    async def opened() -> bool:
        await keeper.run_once()
        return keeper.view is not None and keeper.view.state is SaleState.OPEN

    await until(opened)
    await sale.join("ada")
    await sale.patch(ends_at=_from_now(-0.001))

    async def ended() -> bool:
        await keeper.run_once()
        return keeper.view is not None and keeper.view.state is SaleState.ENDED

    await until(ended)
    actions = [(fact.action, fact.reason) for fact in await sale.relay() if isinstance(fact, SaleChanged)]
    assert actions == [("create", ""), ("open", "opens_at"), ("patch", ""), ("end", "ends_at")]


async def test_a_sale_does_not_open_or_end_before_its_time(new_sale: NewSale, keeper_of: KeeperOf) -> None:
    early = await new_sale(5, draft=True, opens_at=_from_now(3600), ends_at=_from_now(7200))
    await early.acknowledge()
    keeper = keeper_of(early)
    await keeper.run_once()
    assert (await early.look()).meta["state"] == "draft"


async def test_times_are_those_of_redis_and_not_of_this_machine(
    new_sale: NewSale, keeper_of: KeeperOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await new_sale(5, draft=True, opens_at=_from_now(3600))
    await sale.acknowledge()
    real = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: real + 7200 * 10**9)
    assert clock.now_ms() > clock.to_ms(_from_now(0))
    await keeper_of(sale).run_once()
    assert (await sale.look()).meta["state"] == "draft"


async def test_an_end_that_is_due_in_draft_ends_the_sale(new_sale: NewSale, keeper_of: KeeperOf) -> None:
    sale = await new_sale(5, draft=True, opens_at=_from_now(-10), ends_at=_from_now(-5))
    keeper = keeper_of(sale)
    await keeper.run_once()
    assert (await sale.look()).meta["state"] == "ended"


async def test_e4_an_end_that_the_operator_moves_at_the_last_moment_is_not_carried_out(
    new_sale: NewSale, keeper_of: KeeperOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    sale = await new_sale(5, ends_at=_from_now(-1))
    [ada] = await sale.join("ada")
    keeper, look = keeper_of(sale), Sales.get

    async def look_and_be_overtaken(sales: Sales, sale_id: str) -> SaleView | None:
        view = await look(sales, sale_id)
        if view is not None and view.version == 2:
            await sale.patch(ends_at=_from_now(3600))
        return view

    monkeypatch.setattr(Sales, "get", look_and_be_overtaken)
    await keeper.run_once()
    assert (await sale.look()).meta["state"] == "open"
    assert await sale.states(ada) == ["WAITING"]


async def test_e4_an_ended_sale_declines_who_waits_and_closes_only_when_nothing_is_under_way(
    new_sale: NewSale, keeper_of: KeeperOf
) -> None:
    sale = await new_sale(5)
    [reserved] = await sale.reserved("ada")
    [admitted] = await sale.join("bob")
    await sale.admit()
    waiting = await sale.join("cy", "dee")
    keeper = keeper_of(sale)
    await keeper.run_once()
    await sale.change("end")

    async def closed() -> bool:
        await keeper.run_once()
        return keeper.over

    async def declined() -> bool:
        await keeper.run_once()
        return await sale.states(*waiting) == ["DECLINED"] * 2

    await until(declined)
    facts = await sale.relay()
    assert [fact.reason for fact in facts if isinstance(fact, TicketDeclined)] == ["sale_closed"] * 2
    await sale.acknowledge()
    assert not await closed(), "one is admitted, one is reserved"
    await sale.end_leases(admitted)
    await keeper.run_once()  # its lease ends: it waits again, and is declined
    await keeper.run_once()
    await sale.confirm(reserved)
    assert not await closed(), "a fact is still in the outbox"
    await sale.relay()
    assert not await closed(), "Postgres is told first"
    await sale.relay()
    await sale.acknowledge()
    assert await closed()
    assert await sale.states(reserved, admitted) == ["CONFIRMED", "DECLINED"]


async def test_a_sale_that_was_closed_before_is_seen_to_be(new_sale: NewSale, keeper_of: KeeperOf) -> None:
    sale = await new_sale(5)
    await sale.change("end")
    await sale.acknowledge()
    await sale.relay()
    assert await sale.closed() == "CLOSED"
    keeper = keeper_of(sale)
    await keeper.run_once()
    assert keeper.over


async def test_o3_an_order_nothing_is_heard_of_is_sent_again_until_it_is_settled(
    new_sale: NewSale, keeper_of: KeeperOf, metrics: Metrics
) -> None:
    sale = await new_sale(5)
    ids = await sale.join("ada")
    lease, _ = await sale.admit()
    await sale.reserve(lease, *ids, redrive_ms=1)
    assert len([fact for fact in await sale.relay() if isinstance(fact, OrderPlaced)]) == 1
    keeper = keeper_of(sale, redrive_after_ms=200, redrive_longest_ms=200)

    async def sent_again() -> bool:
        await keeper.run_once()
        return any(isinstance(fact, OrderPlaced) and fact.ticket_id == ids[0] for fact in await sale.relay())

    await until(sent_again)
    await until(sent_again)
    assert _count(metrics, "fairline_redriven_total", sale=sale.id) >= 2
    await sale.confirm(*ids)
    assert not await sent_again()


async def test_o4_a_change_that_postgres_does_not_acknowledge_is_sent_again(
    new_sale: NewSale, keeper_of: KeeperOf
) -> None:
    sale = await new_sale(5, draft=True)
    [created] = await sale.relay()
    keeper = keeper_of(sale, redrive_after_ms=200, redrive_longest_ms=200)

    async def sent_again() -> list[SaleChanged]:
        await keeper.run_once()
        return [fact for fact in await sale.relay() if isinstance(fact, SaleChanged)]

    [again] = await until(sent_again)
    assert isinstance(created, SaleChanged)
    assert (again.version, again.action) == (created.version, "again")


async def test_a_sale_that_nobody_has_written_yet_is_nothing_to_do(
    redis: object, unsteady: UnsteadyRedis, metrics: Metrics
) -> None:
    room, stock = Room(unsteady.client), Stock(unsteady.client, "never-written", ("seat",))
    await room.say_whole(await room.instance())
    keeper = Keeper(Sales(room), stock, admission_settings(), metrics)
    assert await keeper.run_once() == 0
    assert keeper.view is None


async def test_d1_a_halted_sale_is_refused_at_once_though_the_view_is_fresh(
    new_sale: NewSale, keeper_of: KeeperOf
) -> None:
    sale = await new_sale(5, damaged=True)
    keeper = keeper_of(sale)
    await keeper.run_once()
    await sale.raw.hset(sale.keys.meta, "fence", "another")
    with pytest.raises(FencedError):
        await keeper.run_once()


async def test_redis_away_is_later_and_nothing_is_forgotten(
    new_sale: NewSale, keeper_of: KeeperOf, unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(5)
    ids = await sale.join("ada")
    await sale.admit()
    await sale.end_leases(*ids)
    keeper = keeper_of(sale)
    unsteady.away = True
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await keeper.run_once()
    unsteady.away = False
    assert await keeper.run_once() == 1
    assert await sale.states(*ids) == ["WAITING"]


async def test_two_keepers_at_once_move_each_ticket_once(new_sale: NewSale, keeper_of: KeeperOf) -> None:
    sale = await new_sale(50)
    ids = await sale.join(*(f"buyer-{number}" for number in range(50)))
    await sale.admit()
    await sale.end_leases(*ids)
    one, other = keeper_of(sale), keeper_of(sale)
    assert await one.run_once() + await other.run_once() == 50
    assert await sale.line() == ids
