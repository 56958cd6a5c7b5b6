"""What a round will be: drawn from its seed alone, and in the long run everything that can be broken."""

from collections import Counter
from itertools import chain

import pytest

from loadtest.chaos.plan import KILLS, KINDS, OTHERS, draw
from loadtest.chaos.world import PROCESSES

ALL = list(KINDS)


def faults_of(seeds: range, kinds: list[str] = ALL) -> Counter[tuple[str, str]]:
    plans = (draw(seed, kinds, sale_id="spring") for seed in seeds)
    return Counter((fault.kind, fault.target) for fault in chain.from_iterable(plan.faults for plan in plans))


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    first, again, other = (draw(seed, ALL, sale_id="spring", shop_url="http://127.0.0.1:1/check") for seed in (7, 7, 8))
    assert first == again
    assert first.faults != other.faults
    assert first.buyers != other.buyers


def test_a_hundred_rounds_kill_every_process_twenty_times() -> None:
    for seed in (1, 4_711, 999_999):
        kills = Counter(
            target
            for (kind, target), n in faults_of(range(seed, seed + 100)).items()
            for _ in range(n)
            if kind == "kill"
        )
        assert set(kills) == set(PROCESSES)
        assert min(kills.values()) >= 20


def test_in_the_long_run_everything_is_broken_in_every_way() -> None:
    assert set(faults_of(range(4_000))) == {(kind, target) for kind in ALL for target in KINDS[kind].targets}


def test_a_hundred_rounds_have_every_kind_of_fault() -> None:
    assert {kind for kind, _ in faults_of(range(5_000, 5_100))} == set(ALL)


@pytest.mark.parametrize("kinds", [["kill"], ["operator"], ["cut", "hole"], ["redis"]], ids=",".join)
def test_only_what_is_allowed_is_broken(kinds: list[str]) -> None:
    assert {kind for kind, _ in faults_of(range(30), kinds)} == set(kinds)


def test_a_round_is_small_and_its_faults_end_soon() -> None:
    for seed in range(300):
        plan = draw(seed, ALL, sale_id="spring")
        assert len(plan.faults) <= KILLS + OTHERS[1]
        assert len(plan.buyers) < 1_000
        assert all(fault.at_s + fault.for_s <= 15 for fault in plan.faults)


def test_no_two_faults_share_a_wire_or_the_first_to_end_would_end_both() -> None:
    for seed in range(300):
        wires = [fault.target.split()[0] for fault in draw(seed, ALL, sale_id="spring").faults if ">" in fault.target]
        assert len(wires) == len(set(wires))


def test_some_buyers_come_twice_some_leave_and_each_request_has_a_key_of_its_own() -> None:
    buyers = [buyer for seed in range(20) for buyer in draw(seed, ALL, sale_id="spring").buyers]
    assert len({buyer.key for buyer in buyers}) == len(buyers)
    assert any(buyer.leaves_after_s for buyer in buyers)
    assert any(buyer.asks_every_s for buyer in buyers)
    assert any(buyer.quantity > 1 for buyer in buyers)
    plan = draw(3, ALL, sale_id="spring")
    assert len({buyer.buyer_id for buyer in plan.buyers}) < len(plan.buyers)
