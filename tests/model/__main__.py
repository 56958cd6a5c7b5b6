"""The model by hand: see ``tests.model``."""

import argparse
import sys
import time
from collections.abc import Mapping

from tests.model import pace
from tests.model.explore import Found, explore
from tests.model.scenarios import DEEP, SCENARIOS
from tests.model.telling import told
from tests.model.variants import VARIANTS
from tests.model.world import Scenario


def main() -> int:
    """What the arguments ask for; 0 where all scenarios hold and all variants are caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description="Explore the model of the protocol.")
    parser.add_argument("--list", action="store_true", help="the variants, each a rule left out")
    parser.add_argument("--variant", metavar="NAME", help="one of them, with its shortest counterexample")
    parser.add_argument("--scenario", metavar="NAME", help="one scenario of the complete protocol")
    parser.add_argument("--deep", action="store_true", help="larger scenarios; minutes, and up to 2 GB of memory")
    chosen = parser.parse_args()
    if chosen.list:
        for name, variant in VARIANTS.items():
            print(f"{name:12s} {variant.does}")
        for name, (does, _) in pace.VARIANTS.items():
            print(f"{name:12s} {does}")
        return 0
    if chosen.variant:
        return not _variant(chosen.variant, whole=True)
    scenarios = DEEP if chosen.deep else SCENARIOS
    if chosen.scenario:
        scenarios = {chosen.scenario: scenarios[chosen.scenario]}
    began = time.monotonic()
    states, good = _complete(scenarios)
    if not chosen.scenario:
        for recoveries in (False, True):
            paced = pace.explore(recoveries=recoveries)
            states, good = states + paced.states, good and not paced.fault
            name = "pace, recovered" if recoveries else "pace, clock and rate"
            print(f"{name:28s} {paced.states:8d} states  {paced.fault or 'holds'}")
    if not chosen.scenario and not chosen.deep:
        print("without a rule:")
        good &= sum(not _variant(name) for name in (*VARIANTS, *pace.VARIANTS)) == 0
    print(f"{states} states of the complete protocol, {time.monotonic() - began:.0f} s: {'pass' if good else 'FAIL'}")
    return not good


def _complete(scenarios: Mapping[str, Scenario]) -> tuple[int, bool]:
    """How many states there are, and whether everything holds in each of them."""
    states, good = 0, True
    for name, scenario in scenarios.items():
        found = explore(scenario)
        states, good = states + found.states, good and not found.fault
        print(f"{name:28s} {found.states:8d} states  {found.fault or 'holds'}", flush=True)
        _show(found)
    return states, good


def _variant(name: str, *, whole: bool = False) -> bool:
    """Whether it is caught; with its counterexample where asked for."""
    if name in pace.VARIANTS:
        does, without = pace.VARIANTS[name]
        paced = pace.explore(without, recoveries=name == "P3-recover")
        print(f"{name:12s} {paced.states:8d} states  {paced.fault or 'NOT CAUGHT'}")
        if whole:
            print(f"without {name}, {does}:", *paced.trace, sep="\n  ")
        return bool(paced.fault)
    variant = VARIANTS[name]
    found = explore(variant.scenario, variant.without)
    print(f"{name:12s} {found.states:8d} states  {found.fault or 'NOT CAUGHT'}", flush=True)
    if whole:
        also = sorted(variant.without - {name})
        print(f"without {name}{' and ' if also else ''}{', '.join(also)}: {variant.does}")
        print(*(f"  t{at}: {wish}" for at, wish in enumerate(variant.scenario.wishes)), sep="\n")
        _show(found)
    return found.fault.startswith(str(variant.breaks))


def _show(found: Found) -> None:
    if found.trace:
        print(*(f"  {line}" for line in told(found.first, found.trace)), sep="\n")
        print(f"  then {found.fault}")


if __name__ == "__main__":
    sys.exit(main())
