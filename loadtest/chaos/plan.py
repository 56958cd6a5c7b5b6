"""What happens in a round, drawn from its seed and from nothing else: the sale, the buyers, the faults and when.

The same seed and the same kinds give the same plan. How it then falls out depends on the machine, as it does at night.
"""

import random
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fairline.sale import Item, SaleDefinition, Validator
from loadtest.chaos import on_clocks, on_postgres, on_processes, on_redis, on_sales, on_wires
from loadtest.chaos.faults import Fault, Kind
from loadtest.chaos.surge import Buyer
from loadtest.chaos.world import PROCESSES

KINDS: Final[Mapping[str, Kind]] = {
    "kill": on_processes.Signal(signal.SIGKILL),
    "term": on_processes.Signal(signal.SIGTERM),
    "stop": on_processes.Freeze(),
    "cut": on_wires.Cut(),
    "slow": on_wires.Slow(),
    "hole": on_wires.Hole(),
    "lost": on_wires.Lost(),
    "publish": on_wires.PublishLost(),
    "postgres": on_postgres.Broken(),
    "poison": on_postgres.Poison(),
    "redis": on_redis.Lose(),
    "clock": on_clocks.Jump(),
    "operator": on_sales.Act(),
}
# How often a kind comes, of those that are allowed. Kills come besides: every round has some.
_WEIGHTS: Final = {"redis": 1, "poison": 2, "clock": 2, "cut": 3, "slow": 3, "term": 3, "lost": 4, "publish": 3}
_USUAL: Final = 4
KILLS: Final = 3
OTHERS: Final = (2, 5)
COMES_OVER_S: Final = 5.0
FAULTS_FROM_S, FAULTS_TO_S = 0.4, 6.0
SHORTEST_S: Final = 0.5
_DAY_S: Final = 86_400.0
_DECLINED: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One round."""

    seed: int
    sale: SaleDefinition
    buyers: tuple[Buyer, ...]
    faults: tuple[Fault, ...]


def draw(seed: int, kinds: Sequence[str], *, sale_id: str, shop_url: str | None = None) -> Plan:
    """The plan of a seed. ``shop_url``: a shop that may be asked over HTTP."""
    chance = random.Random(seed)
    sale = _sale(chance, sale_id, shop_url)
    buyers = _buyers(chance, sale, seed)
    return Plan(seed=seed, sale=sale, buyers=buyers, faults=_faults(chance, seed, kinds))


def _sale(chance: random.Random, sale_id: str, shop_url: str | None) -> SaleDefinition:
    asks_shop = chance.random() < 0.5
    validator = (
        Validator(kind="http", url=shop_url, timeout_ms=1000)
        if asks_shop and shop_url is not None
        else Validator(kind="simulated", decline_share=_DECLINED, seed=chance.randrange(1_000))
    )
    return SaleDefinition(
        sale_id=sale_id,
        name="A sale in trouble",
        items=tuple(
            Item(sku=f"item-{number}", name=f"Item {number}", stock=chance.randint(20, 60))
            for number in range(1, chance.randint(1, 3) + 1)
        ),
        per_buyer_limit=chance.choice((1, 1, 2)),
        rate_per_s=chance.choice((None, 20.0, 40.0)),
        capacity=chance.choice((None, 5, 20)),
        validator=validator,
    )


def _buyers(chance: random.Random, sale: SaleDefinition, seed: int) -> tuple[Buyer, ...]:
    """More than there is for them, as a rule; some come twice, some leave, some ask for more than one."""
    there = sum(item.stock for item in sale.items)
    buyers = [
        Buyer(
            at_s=round(chance.uniform(0, COMES_OVER_S), 3),
            buyer_id=f"buyer-{number:03}",
            sku=chance.choice(sale.items).sku,
            key=f"{seed}-{number}-{again}",
            quantity=chance.randint(1, sale.per_buyer_limit),
            leaves_after_s=round(chance.uniform(0.1, 4), 3) if chance.random() < 0.05 else None,
            asks_every_s=1.0 if chance.random() < 0.3 else None,
        )
        for number in range(round(there * chance.uniform(0.8, 2.0)))
        for again in range(2 if chance.random() < 0.15 else 1)
    ]
    return tuple(sorted(buyers, key=lambda buyer: buyer.at_s))


def _faults(chance: random.Random, seed: int, kinds: Sequence[str]) -> tuple[Fault, ...]:
    """Victims of kills in turn, so that a run of seeds goes evenly through all processes; the others at random."""
    faults = []
    if "kill" in kinds:
        turn = (PROCESSES[(seed * KILLS + number) % len(PROCESSES)] for number in range(KILLS))
        faults += [_fault(chance, "kill", name) for name in turn]
    others = [kind for kind in KINDS if kind in kinds and kind != "kill"]
    weights = [_WEIGHTS.get(kind, _USUAL) for kind in others]
    used: set[str] = set()
    for kind in chance.choices(others, weights, k=chance.randint(*OTHERS)) if others else ():
        target = chance.choice(_targets(kind, chance))
        where = target.split()[0] if ">" in target else f"{kind} {target}"
        if where not in used:  # what ends first would end both
            used.add(where)
            faults.append(_fault(chance, kind, target))
    return tuple(sorted(faults, key=lambda fault: fault.at_s))


def _targets(kind: str, chance: random.Random) -> Sequence[str]:
    """An end of the sale ends the round too, and a Redis that ends halts it: both come, and neither often."""
    rare = {"operator": "end", "term": "redis"}.get(kind)
    targets = KINDS[kind].targets
    return targets if chance.random() < 0.3 else [target for target in targets if target != rare]


def _fault(chance: random.Random, kind: str, target: str) -> Fault:
    lasts = kind != "operator" or target == "pause"
    longest_s = KINDS[kind].longest_s if lasts else 0.0
    amount = {
        "slow": chance.uniform(0.05, 0.4),
        "clock": chance.choice((-1, 1)) * chance.choice((1.5, 60.0, _DAY_S)),
        "redis": chance.uniform(0.5, 1.5),
        "lost": chance.randint(1, 3),
        "publish": chance.randint(1, 3),
        "postgres": chance.uniform(0.3, 1.5),
    }.get(kind, chance.random())
    return Fault(
        kind=kind,
        target=target,
        at_s=round(chance.uniform(FAULTS_FROM_S, FAULTS_TO_S), 2),
        for_s=round(chance.uniform(SHORTEST_S, longest_s), 2) if longest_s else 0.0,
        amount=round(amount, 3),
    )
