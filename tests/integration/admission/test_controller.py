"""The controller on a real Redis: leases whose answers get lost, decisions in time, the shop that is left alone."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from admission.controller import Controller
from admission.stock import Admitted, Stock
from admission.validators import YES, Accept, BreakerOpenError, NoAnswerError
from fairline.errors import FencedError, UnavailableError
from fairline.runtime.metrics import Metrics
from tests.integration.admission.conftest import NewSale
from tests.support.admission import UnsteadyRedis, admission_settings, until
from tests.support.rebuilt import rebuilt
from tests.support.sale import SaleDriver

LEASE_MS = 10_000
HANG_S = 60.0


class Ask:
    """A validator in a test's hands."""

    def __init__(self, say: Callable[[Admitted], object] = lambda _: YES) -> None:
        self.say = say
        self.resting = False
        self.at_once = 1_000_000
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, ticket: Admitted) -> str:
        self.asked.append(ticket.ticket_id)
        await self.gate.wait()
        said = self.say(ticket)
        if isinstance(said, BaseException):
            raise said
        if isinstance(said, float):
            await asyncio.sleep(said)
            return YES
        return str(said)


@pytest.fixture
def controller_of(unsteady: UnsteadyRedis, metrics: Metrics) -> Callable[..., Controller]:
    def controller_of(sale: SaleDriver, **settings: object) -> Controller:
        stock = Stock(unsteady.client, sale.id, sale.skus)
        return Controller(stock, admission_settings(**settings), metrics)

    return controller_of


def _count(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


async def test_a_ticket_is_admitted_checked_and_reserved(
    new_sale: NewSale, controller_of: Callable[..., Controller], metrics: Metrics
) -> None:
    sale = await new_sale(5)
    ids = await sale.join("ada", "bob", "cy")
    controller = controller_of(sale)
    check = Ask(lambda ticket: "no_member" if ticket.buyer_id == "bob" else YES)
    assert await controller.run_once(check, LEASE_MS) == 3
    await controller.drain()
    assert await sale.states(*ids) == ["RESERVED", "DECLINED", "RESERVED"]
    assert (await sale.record(ids[1])).reason == "no_member"
    assert _count(metrics, "fairline_admitted_total", sale=sale.id) == 3
    assert _count(metrics, "fairline_reserved_total", sale=sale.id) == 2
    assert _count(metrics, "fairline_validated_total", sale=sale.id, answer="no") == 1


async def test_l1_a_lost_answer_of_admit_is_asked_for_again_under_the_same_lease(
    new_sale: NewSale, controller_of: Callable[..., Controller], unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(5)
    ids = await sale.join("ada", "bob")
    controller = controller_of(sale)
    check = Ask()
    unsteady.lose("admit")
    with pytest.raises(UnavailableError):
        await controller.run_once(check, LEASE_MS)
    [leases] = [{(await sale.record(each)).lease for each in ids}]
    assert len(leases) == 1
    assert check.asked == []
    assert await controller.run_once(check, LEASE_MS) == 2
    await controller.drain()
    assert sorted(check.asked) == sorted(ids)
    assert await sale.states(*ids) == ["RESERVED"] * 2
    assert {(await sale.record(each)).lease for each in ids} == leases
    assert [(await sale.record(each)).tries for each in ids] == [1, 1]


async def test_l1_a_call_that_was_never_carried_out_admits_at_its_repetition(
    new_sale: NewSale, controller_of: Callable[..., Controller], unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(5)
    ids = await sale.join("ada")
    controller = controller_of(sale)
    unsteady.refuse("admit", 3)
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await controller.run_once(Accept(), LEASE_MS)
    assert await controller.run_once(Accept(), LEASE_MS) == 1
    await controller.drain()
    assert await sale.states(*ids) == ["RESERVED"]


async def test_l1_two_leases_are_never_the_same(new_sale: NewSale, controller_of: Callable[..., Controller]) -> None:
    sale = await new_sale(5)
    ids = await sale.join("ada", "bob")
    one, other = controller_of(sale, batch=1), controller_of(sale, batch=1)
    for controller in (one, other):
        assert await controller.run_once(Accept(), LEASE_MS) == 1
        await controller.drain()
    assert len({(await sale.record(each)).lease for each in ids}) == 2


async def test_who_is_not_there_or_can_get_nothing_makes_nobody_wait_for_the_next_tick(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(1, per_buyer_limit=2)
    absent = await sale.join("ada", "bob", "cy")
    await rebuilt(sale)
    await sale.join("dee", "eve", "fay", quantity=2)
    [last] = await sale.join("gus")
    controller = controller_of(sale, batch=2)
    moved = [await controller.run_once(Accept(), LEASE_MS) for _ in range(5)]
    await controller.drain()
    assert moved == [2, 2, 2, 1, 0], "while it moves anybody it does not rest (D3, Q1)"
    assert await sale.states(*absent, last) == ["WAITING"] * 3 + ["RESERVED"]


@pytest.mark.parametrize("script", ["reserve", "decline", "give_back"])
@pytest.mark.parametrize("trouble", ["lose", "refuse"])
async def test_l2_a_decision_without_an_answer_is_written_again_until_there_is_one(
    new_sale: NewSale, controller_of: Callable[..., Controller], unsteady: UnsteadyRedis, script: str, trouble: str
) -> None:
    sale = await new_sale(5)
    ids = await sale.join("ada", "bob")
    says: dict[str, tuple[object, str]] = {
        "reserve": (YES, "RESERVED"),
        "decline": ("no_member", "DECLINED"),
        "give_back": (BreakerOpenError(), "WAITING"),
    }
    said, state = says[script]
    getattr(unsteady, trouble)(script, 3)
    controller = controller_of(sale)
    assert await controller.run_once(Ask(lambda _: said), LEASE_MS) == 2
    await controller.drain()
    assert await sale.states(*ids) == [state] * 2
    assert unsteady.calls.count(script) == 4
    assert len(await sale.relay()) == {"reserve": 2, "decline": 2, "give_back": 0}[script] + 2  # and two of the sale


async def test_l4_the_deadline_counts_from_before_the_first_call_of_admit(
    new_sale: NewSale,
    controller_of: Callable[..., Controller],
    unsteady: UnsteadyRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sale = await new_sale(5)
    await sale.join("ada")
    controller = controller_of(sale, margin_ms=500)
    ends: list[float] = []
    decide = controller._decide

    async def spy(lease: Any, *rest: Any) -> None:
        ends.append(lease.ends)
        await decide(lease, *rest)

    monkeypatch.setattr(controller, "_decide", spy)
    before = time.monotonic()
    unsteady.lose("admit")
    with pytest.raises(UnavailableError):
        await controller.run_once(Accept(), LEASE_MS)
    after = time.monotonic()

    async def later() -> bool:
        return time.monotonic() > after + 0.05

    await until(later)
    assert await controller.run_once(Accept(), LEASE_MS) == 1
    await controller.drain()
    assert before + 9.5 <= ends[0] <= after + 9.5


async def test_l4_a_shorter_lease_shortens_the_one_that_was_not_answered(
    new_sale: NewSale, controller_of: Callable[..., Controller], unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(5)
    await sale.join("ada")
    controller = controller_of(sale)
    unsteady.lose("admit")
    with pytest.raises(UnavailableError):
        await controller.run_once(Accept(), 10 * LEASE_MS)
    lease = controller._next_lease(LEASE_MS)
    assert lease.id == controller._next_lease(LEASE_MS).id
    assert lease.ends <= time.monotonic() + LEASE_MS / 1000


async def test_l4_a_lease_that_is_nearly_over_is_not_taken_up_again(
    new_sale: NewSale, controller_of: Callable[..., Controller], unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(5)
    [ticket] = await sale.join("ada")
    controller = controller_of(sale, lease_ms=200, margin_ms=50)
    unsteady.lose("admit")
    with pytest.raises(UnavailableError):
        await controller.run_once(Accept(), 200)
    lost = (await sale.record(ticket)).lease

    async def nearly_over() -> bool:
        return controller._next_lease(200).id != lost

    await until(nearly_over)
    await sale.end_leases(ticket)
    assert await sale.reap() == (1, 0)
    assert await controller.run_once(Accept(), LEASE_MS) == 1
    await controller.drain()
    assert (await sale.record(ticket)).lease != lost
    assert await sale.states(ticket) == ["RESERVED"]


async def test_l5_a_validator_slower_than_the_lease_decides_nothing_and_the_ticket_lapses_in_the_end(
    new_sale: NewSale, controller_of: Callable[..., Controller], metrics: Metrics
) -> None:
    sale = await new_sale(5)
    [ticket] = await sale.join("ada")
    controller = controller_of(sale, lease_ms=300, margin_ms=50)
    check = Ask(lambda _: HANG_S)
    for tries in (1, 2, 3):
        assert await controller.run_once(check, 300) == 1
        await controller.drain()
        assert (await sale.record(ticket)).tries == tries
        assert await sale.states(ticket) == ["ADMITTED"]
        await sale.end_leases(ticket)
        assert await sale.reap(max_tries=3) == ((1, 0) if tries < 3 else (0, 1))
    assert await sale.states(ticket) == ["LAPSED"]
    assert _count(metrics, "fairline_validated_total", sale=sale.id, answer="none") == 3
    assert controller._deciding == 0


async def test_l4_an_answer_after_the_lease_has_ended_in_redis_decides_nothing(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(5)
    [ticket] = await sale.join("ada")
    slow, quick = controller_of(sale), controller_of(sale)
    check = Ask()
    check.gate.clear()
    assert await slow.run_once(check, LEASE_MS) == 1
    await sale.end_leases(ticket)
    assert await sale.reap() == (1, 0)
    assert await quick.run_once(Ask(lambda _: "no_member"), LEASE_MS) == 1
    await quick.drain()
    check.gate.set()
    await slow.drain()
    assert await sale.states(ticket) == ["DECLINED"]


async def test_the_quick_ones_of_a_batch_do_not_wait_for_the_slow_one(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(9)
    ids = await sale.join("slow", "ada", "bob")
    controller = controller_of(sale)
    assert await controller.run_once(Ask(lambda t: HANG_S if t.buyer_id == "slow" else YES), LEASE_MS) == 3

    async def two_are_reserved() -> bool:
        return await sale.states(*ids) == ["ADMITTED", "RESERVED", "RESERVED"]

    await until(two_are_reserved)
    assert controller._deciding == 1
    await controller.close()
    assert controller._deciding == 0


async def test_a_batch_is_reserved_in_one_call(
    new_sale: NewSale, controller_of: Callable[..., Controller], unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(100)
    await sale.join(*(f"buyer-{number}" for number in range(100)))
    controller = controller_of(sale)
    assert await controller.run_once(Accept(), LEASE_MS) == 100
    await controller.drain()
    assert unsteady.calls.count("reserve") == 1


async def test_l5_admission_stops_while_the_shop_is_left_alone(
    new_sale: NewSale, controller_of: Callable[..., Controller], unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(5)
    ids = await sale.join("ada")
    check = Ask()
    check.resting = True
    controller = controller_of(sale)
    assert await controller.run_once(check, LEASE_MS) == 0
    assert unsteady.calls == []
    assert await sale.states(*ids) == ["WAITING"]


async def test_l5_what_opened_the_breaker_and_what_it_kept_back_is_given_back_without_a_try(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(9)
    ids = await sale.join("ada", "bob", "cy", "dee")
    check = Ask()

    def say(ticket: Admitted) -> object:
        if ticket.buyer_id in {"ada", "bob"}:
            return NoAnswerError()
        check.resting = True
        return BreakerOpenError()

    check.say = say
    controller = controller_of(sale)
    assert await controller.run_once(check, LEASE_MS) == 4
    await controller.drain()
    assert await sale.states(*ids) == ["WAITING"] * 4
    assert [(await sale.record(each)).tries for each in ids] == [0] * 4
    assert await sale.line() == ids


async def test_l5_without_an_open_breaker_a_ticket_without_an_answer_keeps_its_lease(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(9)
    ids = await sale.join("ada", "bob")
    controller = controller_of(sale)
    check = Ask(lambda ticket: NoAnswerError() if ticket.buyer_id == "ada" else YES)
    assert await controller.run_once(check, LEASE_MS) == 2
    await controller.drain()
    assert await sale.states(*ids) == ["ADMITTED", "RESERVED"]
    assert (await sale.record(ids[0])).tries == 1


async def test_a_validator_with_a_bug_spoils_only_its_own_ticket(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(9)
    ids = await sale.join("ada", "bob")
    controller = controller_of(sale)
    check = Ask(lambda ticket: KeyError("oops") if ticket.buyer_id == "ada" else YES)
    await controller.run_once(check, LEASE_MS)
    await controller.drain()
    assert await sale.states(*ids) == ["ADMITTED", "RESERVED"]


async def test_no_more_tickets_are_under_decision_than_batches_allow(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(100)
    await sale.join(*(f"buyer-{number}" for number in range(50)))
    controller = controller_of(sale, batch=5, batches=3)
    check = Ask()
    check.gate.clear()
    admitted = [await controller.run_once(check, LEASE_MS) for _ in range(3)]
    assert admitted == [5, 5, 5]
    assert await controller.run_once(check, LEASE_MS) == 15  # these are under decision
    assert len(await sale.leased()) == 15
    check.gate.set()
    await controller.drain()
    assert await controller.run_once(check, LEASE_MS) == 5
    await controller.drain()


async def test_no_more_tickets_are_admitted_than_the_validator_may_be_asked_about(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(100)
    await sale.join(*(f"buyer-{number}" for number in range(50)))
    controller = controller_of(sale, batch=5)
    check = Ask()
    check.at_once = 7
    check.gate.clear()
    assert [await controller.run_once(check, LEASE_MS) for _ in range(3)] == [5, 2, 7]
    assert len(await sale.leased()) == 7
    check.gate.set()
    await controller.drain()


async def test_a_sale_that_is_not_open_is_asked_now_and_then_and_not_waited_for(
    new_sale: NewSale, controller_of: Callable[..., Controller], unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(5)
    [ticket] = await sale.join("ada")
    await sale.change("pause")
    controller = controller_of(sale)
    begun = time.monotonic()
    while time.monotonic() < begun + 0.5:
        assert await controller.run_once(Accept(), LEASE_MS) == 0
        await asyncio.sleep(0)
    assert 1 <= unsteady.calls.count("admit") <= 4
    assert await sale.states(ticket) == ["WAITING"]
    await sale.change("resume")

    async def admitted() -> int:
        return await controller.run_once(Accept(), LEASE_MS)

    assert await until(admitted) == 1
    await controller.drain()


async def test_a_full_outbox_stops_admission(new_sale: NewSale, controller_of: Callable[..., Controller]) -> None:
    sale = await new_sale(500)
    await sale.join(*(f"buyer-{number}" for number in range(200)))
    controller = controller_of(sale, batch=100, outbox_limit=100)
    assert await controller.run_once(Accept(), LEASE_MS) == 100
    await controller.drain()
    assert await controller.run_once(Accept(), LEASE_MS) == 0
    assert len(await sale.line()) == 100
    await sale.relay()
    assert await controller.run_once(Accept(), LEASE_MS) == 100
    await controller.drain()


async def test_d1_a_halted_sale_admits_nobody_and_what_is_in_hand_is_left_to_recovery(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(5, damaged=True)
    [ticket] = await sale.join("ada")
    controller = controller_of(sale)
    check = Ask()
    check.gate.clear()
    await controller.run_once(check, LEASE_MS)
    await sale.raw.hset(sale.keys.meta, "fence", "another")
    with pytest.raises(FencedError):
        await controller.run_once(check, LEASE_MS)
    check.gate.set()
    await controller.drain()
    assert await sale.states(ticket) == ["ADMITTED"]
    assert controller._deciding == 0


async def test_redis_away_for_longer_than_the_lease_decides_nothing_and_ends(
    new_sale: NewSale, controller_of: Callable[..., Controller], unsteady: UnsteadyRedis
) -> None:
    sale = await new_sale(5)
    [ticket] = await sale.join("ada")
    controller = controller_of(sale, lease_ms=300, margin_ms=50)
    check = Ask()
    check.gate.clear()
    assert await controller.run_once(check, 300) == 1
    unsteady.away = True
    check.gate.set()
    await controller.drain()
    unsteady.away = False
    assert await sale.states(ticket) == ["ADMITTED"]
    assert controller._deciding == 0


async def test_what_is_closed_leaves_no_task_and_loses_no_ticket(
    new_sale: NewSale, controller_of: Callable[..., Controller]
) -> None:
    sale = await new_sale(5)
    ids = await sale.join("ada", "bob")
    controller = controller_of(sale)
    await controller.run_once(Ask(lambda _: HANG_S), LEASE_MS)
    before = {task for task in asyncio.all_tasks() if task.get_name().startswith("decide")}
    assert len(before) == 1
    await controller.close()
    await controller.close()
    assert not [task for task in asyncio.all_tasks() if task in before]
    await sale.end_leases(*ids)
    assert await sale.reap() == (2, 0)
    assert await sale.line() == ids


async def test_admission_slows_while_orders_wait_for_their_verdict_says_why_and_is_fast_again(
    new_sale: NewSale, controller_of: Callable[..., Controller], metrics: Metrics
) -> None:
    sale = await new_sale(500)
    controller = controller_of(sale, behind_ms=100, orders_limit=100)
    await sale.join(*(f"buyer-{n}" for n in range(300)))

    async def admit() -> int:
        moved = await controller.run_once(Ask(), LEASE_MS)
        await controller.drain()
        return moved

    async def stands_still() -> bool:
        return await admit() == 0

    def told(name: str) -> float:
        return _count(metrics, name, sale=sale.id)

    await until(stands_still)
    waiting = await sale.count("RESERVED")
    assert 0 < waiting <= 100, "orders without a verdict are bounded"
    assert told("fairline_orders_unsettled") == waiting

    async def slow() -> bool:
        await admit()
        stats = await sale.stats()
        return stats.share < 0.2 and stats.because != "" and told("fairline_orders_unsettled_seconds") > 0.5

    await until(slow)
    assert told("fairline_admission_share") < 0.2

    async def all_admitted() -> bool:
        """Postgres answers again, and again, until the line is empty."""
        await sale.confirm(*[each.decode() for each in await sale.raw.zrange(sale.keys.reserved, 0, -1)])
        await admit()
        return await sale.count("CONFIRMED") == 300

    await until(all_admitted)
    await admit()
    assert told("fairline_admission_share") == 1
