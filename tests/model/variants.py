"""The rules of the protocol, each left out once: what an obvious but flawed implementation does, and what breaks.

``without`` are the names that the model looks for; more than one where a second rule would hide what the first is for.
 ``breaks`` is the invariant, by number, that the shortest counterexample violates.
"""

from typing import NamedTuple

from tests.model.world import Scenario, Wish

ONE = (Wish(0),)
TWO = (Wish(0), Wish(1))
THREE = (Wish(0), Wish(1), Wish(2))


class Variant(NamedTuple):
    """A protocol without a rule, in a small scenario that shows why the rule is there."""

    does: str
    breaks: int
    scenario: Scenario
    without: frozenset[str] = frozenset()


def _variant(does: str, breaks: int, scenario: Scenario, *also: str) -> Variant:
    return Variant(does, breaks, scenario, frozenset(also))


def _of(wishes: tuple[Wish, ...], stock: int = 1, **more: object) -> Scenario:
    faults = more.pop("faults", {})
    assert isinstance(faults, dict)
    return Scenario(wishes, (stock,), faults=tuple(faults.items()), **more)  # type: ignore[arg-type]


_lost = {"save": 1, "lose": 1}
_silent = {"save": 1, "silent": 1}
_two_recoveries = _of(ONE, recoveries=2, faults={"restart": 1, "overlap": 1})
_VARIANTS = {
    # Order and verdict
    "V1": _variant("a failed order leaves no row", 3, _of(ONE, faults={"never": 1, "rewind": 1})),
    "V2": _variant("a failed order keeps its units in Postgres", 2, _of(TWO, faults={"never": 1})),
    "V2-unique": _variant("Postgres sells a unit twice if Redis does", 1, _of(TWO, faults=_silent)),
    "V2-slots": _variant(
        "Postgres has no slots of a buyer", 7, _of((Wish(0), Wish(1), Wish(0)), 2, capacity=1, faults=_silent)
    ),
    "V3": _variant("the conflict of an order with its own row is a failure", 3, _of(ONE, faults={"crash": 1})),
    "V3-alone": _variant(
        "of an order in conflict what is free is written", 4, _of((Wish(0), Wish(1, 0, 2)), 2, limit=2, faults=_silent)
    ),
    "V4": _variant("a failure is told before it is committed", 3, _of(ONE, faults={"never": 1, "crash": 1})),
    "V5": _variant("the offset is committed first", 4, _of(ONE, faults={"crash": 1}), "O3"),
    "V5-again": _variant("an order that has its row already is not told again", 4, _of(ONE, faults={"crash": 1}), "O3"),
    "V6": _variant("failed attempts are counted in memory", 2, _of((Wish(0, poison=True),))),
    "V6-later": _variant(
        "a unit that Postgres does not know yet is refused for good",
        2,
        _of(TWO, acts=(("stock", 0, 2),)),
        "U3-postgres",
    ),
    "V7": _variant("orders of before a recovery are written", 3, _of((Wish(0, may_decline=True),), faults=_lost)),
    "V8": _variant("RESERVED ends by a clock", 3, _of(ONE, faults={"clock": 1})),
    # Lease, validate, reserve
    "L1": _variant("lease ids are a counter in Redis", 3, _of((Wish(0, may_decline=True),), faults=_lost)),
    "L2-state": _variant("reserve does not look at the state", 2, _of(ONE, 2, limit=2, faults={"again": 1})),
    "L2-lease": _variant(
        "a decision counts whatever the lease", 3, _of((Wish(0, may_decline=True),), faults={"slow": 1})
    ),
    "L2-limit": _variant("reserve trusts join for the limit", 7, _of((Wish(0), Wish(0)), 2), "R2"),
    "L3": _variant("capacity is counted by the callers", 6, _of(TWO, 2, capacity=1)),
    "L5-place": _variant("a lease that ends goes to the tail", 5, _of(TWO, faults={"crash": 1})),
    "L5-tries": _variant("a lease may end any number of times", 2, _of((Wish(0, mute=True),), capacity=1)),
    "L6": _variant("more are admitted than units are unclaimed", 5, _of(TWO)),
    "L6-skip": _variant(
        "a sku with nothing unclaimed holds up the others",
        2,
        Scenario((Wish(0), Wish(1), Wish(2, 1)), (1, 1), keep_line=True),
    ),
    "L7": _variant("reserve writes before it has checked", 2, _of((Wish(0), Wish(0)), 2), "R2"),
    # Units and stock
    "U1": _variant("the next serial is counted from those sold", 1, _of(THREE, 2, faults={"never": 1})),
    "U1-recover": _variant("recovery counts the next serial from those sold", 1, _of(TWO, 2, faults=_lost)),
    "U2": _variant("a released serial is not sold again", 2, _of(TWO, faults={"never": 1})),
    "U3-again": _variant("stock is a difference", 1, _of(THREE, acts=(("stock", 0, 2),), faults={"again": 1})),
    "U3-postgres": _variant(
        "more is sold before Postgres knows, and it refuses what it does not know",
        2,
        _of(TWO, acts=(("stock", 0, 2),)),
        "V6-later",
    ),
    "U3-claims": _variant(
        "less takes the unit of one back from a lease", 5, _of(THREE, 2, acts=(("stock", 0, 1),), faults={"slow": 1})
    ),
    "U3-serials": _variant(
        "less sets a number and leaves the serials", 1, _of(THREE, 2, acts=(("stock", 0, 1),), faults={"never": 1})
    ),
    "U4": _variant("a unit that Postgres has sold is put back", 2, _of(TWO, faults=_silent)),
    # Outbox, Kafka, redrive
    "O1": _variant("the outbox is trimmed up to what was acknowledged", 4, _of(TWO, 2), "O3"),
    "O2": _variant("the record of a RESERVED ticket does not keep the order", 4, _of(ONE, faults={"lose order": 1})),
    "O3": _variant("nothing is sent again", 4, _of(ONE, faults={"lose result": 1})),
    "O3-epoch": _variant(
        "what is sent again has the epoch of its ticket", 4, _of(ONE, faults={**_lost, "lose order": 1})
    ),
    "O4": _variant("only open sales are served", 4, _of(ONE, acts=(("end",),))),
    # Settle and dead letters
    "S1": _variant("a failure puts the unit back whatever the state", 1, _of(TWO, faults={"never": 1, "rewind": 1})),
    "S2": _variant("a dead letter is sent as it was", 3, _of(ONE, faults={"never": 1, "replay": 1}), "V1"),
    # Sold out and end
    "E1": _variant("sold out is told when the last unit is reserved", 2, _of(TWO, faults={"never": 1})),
    "E3": _variant("the sweep goes from the head", 5, _of(THREE, acts=(("stock", 0, 2),))),
    "E4": _variant("nobody tells the line that the sale ended", 2, _of(TWO, acts=(("end",),))),
    "E4-closed": _variant("a sale closes while orders are under way", 4, _of(ONE, acts=(("end",),))),
    # Line
    "R1": _variant("arrival numbers go back with Redis", 5, _of(THREE, faults=_lost)),
    "R2": _variant("join looks and inserts in two calls, reserve trusts it", 7, _of((Wish(0), Wish(0)), 2), "L2-limit"),
    "R2-again": _variant(
        "a request that comes again makes a second ticket", 3, _of((Wish(0, may_decline=True),), faults={"again": 1})
    ),
    # When Redis loses data
    "D1": _variant("processes go on with a Redis that came back older", 3, _of(ONE, faults={**_lost, "leave": 1})),
    "D2-epoch": _variant("recovery raises no epoch", 3, _of((Wish(0, may_decline=True),), faults=_lost)),
    "D2-read": _variant("recovery reads Postgres, then raises the epoch", 1, _of(TWO, faults=_lost)),
    "D2-halted": _variant(
        "recovery installs into a sale that is whole",
        1,
        _of(ONE, recoveries=2, faults={"restart": 1, "overlap": 1}),
        "D2-claim",
    ),
    "D2-claim": _variant("the first of two recoveries to come installs", 2, _two_recoveries, "D2-behind"),
    "D2-seen": _variant("recovery raises whatever epoch it finds", 2, _two_recoveries, "D2-behind"),
    "D2-order": _variant(
        "recovery raises the epoch it saw, without looking whether it still has the sale in hand",
        2,
        _two_recoveries,
        "D2-behind",
    ),
    "D2-behind": _variant("nobody looks whether Redis is behind Postgres", 2, _two_recoveries, "D2-order"),
    "D3-verdicts": _variant("recovery trusts Redis", 1, _of(TWO, faults=_lost)),
    "D3-unseen": _variant("who has not shown up is admitted", 3, _of(ONE, faults={**_lost, "leave": 1})),
    "D4": _variant("who was lost comes back at the tail", 5, _of(THREE, faults=_lost)),
    # Quantity
    "Q1-behind": _variant(
        "those behind one who wants more go first", 5, _of((Wish(0), Wish(1, 0, 2), Wish(2)), 2, limit=2)
    ),
    "Q1-wait": _variant(
        "one who wants more is declined though units may come back",
        2,
        _of((Wish(0), Wish(1, 0, 2)), 2, limit=2, faults={"never": 1}),
    ),
    "Q1-end": _variant("one who wants more than is left waits for ever", 2, _of((Wish(0, 0, 2), Wish(1)), limit=2)),
    # Memory
    "C2": _variant("records of live tickets expire", 8, _of(ONE, faults={"clock": 1})),
}
VARIANTS = {name: each._replace(without=each.without | {name}) for name, each in _VARIANTS.items()}
