"""What the complete protocol is explored in: small enough to be explored whole, together as much as may go wrong.

``SCENARIOS`` are part of every test run, ``DEEP`` are for ``python -m tests.model --deep``.
"""

from tests.model.world import Scenario, Wish


def _of(*wishes: Wish, stock: int = 1, faults: str = "", **more: object) -> Scenario:
    """One sku of ``stock`` units; of ``faults``, each named once a time it may strike."""
    named = [fault.strip() for fault in faults.split(",") if fault.strip()]
    times = tuple((fault, named.count(fault)) for fault in dict.fromkeys(named))
    return Scenario(wishes, (stock,), faults=times, **more)  # type: ignore[arg-type]


A, B, C = Wish(0), Wish(1), Wish(2)
CHOOSY = Wish(0, may_decline=True)  # the shop may say no

SCENARIOS = {
    # who is admitted, and by whom it is decided
    "line": _of(CHOOSY, B, C, stock=2, faults="slow, leave"),
    "controllers die": _of(CHOOSY, B, C, faults="crash, slow, again"),
    "shop is away": _of(CHOOSY, B, faults="away, away, again, again, crash"),
    "shop never answers": _of(Wish(0, mute=True), B, capacity=1, faults="slow"),
    "two skus": Scenario((Wish(0, 0), Wish(0, 1), Wish(1, 0)), (1, 1), faults=(("never", 1),)),
    "several units": _of(Wish(0, 0, 2), B, Wish(2, 0, 2), stock=3, limit=2, faults="never"),
    "too few units": _of(A, Wish(1, 0, 2), C, stock=2, limit=2, faults="never, slow"),
    "kept line": _of(A, B, C, keep_line=True, faults="never, slow"),
    # orders and verdicts
    "writers die": _of(A, B, writers=2, faults="crash, never, rewind"),
    "sent twice": _of(A, B, writers=2, faults="twice, never, early"),
    "poison": _of(Wish(0, poison=True), B, faults="crash"),
    "Kafka loses": _of(A, B, stock=2, faults="lose order, lose result, early"),
    "dead letters": _of(A, B, Wish(0, readmits=0), faults="never, readmit, early, crash"),
    # the operator
    "pause, more, end": _of(A, B, acts=(("pause",), ("resume",), ("stock", 0, 2), ("end",))),
    "less": _of(A, B, C, stock=2, acts=(("stock", 0, 1),), faults="never, again"),
    "less, then more": _of(A, B, stock=2, acts=(("stock", 0, 1), ("stock", 0, 2)), faults="slow, lose change"),
    # Redis
    "loss": _of(CHOOSY, faults="save, lose, crash"),
    "loss, two buyers": _of(A, B, faults="save, lose"),
    "loss, an order fails": _of(A, stock=2, faults="save, lose, never, early"),
    "loss, told before": _of(CHOOSY, faults="save, lose, leave, reload"),
    "loss, joins again": _of(A, Wish(0), faults="save, lose"),
    "loss, Kafka too": _of(A, faults="save, lose, lose order, early"),
    "loss, more": _of(A, acts=(("stock", 0, 2),), faults="save, lose"),
    "loss, less": _of(A, stock=2, acts=(("stock", 0, 1),), faults="save, lose"),
    "loss, end": _of(A, acts=(("end",),), faults="save, lose"),
    "restart": _of(A, B, faults="restart, never"),
    "two recoveries": _of(A, recoveries=2, faults="restart, overlap"),
    "emptied": _of(A, B, faults="empty, never"),
    "a loss that nothing shows": _of(A, B, faults="save, silent"),
}

DEEP = {
    "line": _of(CHOOSY, B, C, stock=2, faults="crash, slow, leave, again"),
    "writers die": _of(A, B, writers=2, faults="crash, twice, never, rewind"),
    "two skus": Scenario((Wish(0, 0), Wish(0, 1), Wish(1, 0), Wish(1, 1)), (1, 1), faults=(("slow", 1), ("never", 1))),
    "several units": _of(Wish(0, 0, 2), B, Wish(2, 0, 2), stock=3, limit=2, faults="slow, never"),
    "pause, more, end": _of(A, B, C, acts=(("pause",), ("resume",), ("stock", 0, 2), ("end",)), faults="again"),
    "less": _of(A, B, C, stock=2, acts=(("stock", 0, 1),), faults="never, slow"),
    "loss": _of(CHOOSY, B, faults="save, lose, crash"),
    "loss, three buyers": _of(A, B, C, faults="save, lose"),
    "loss, an order fails": _of(A, B, stock=2, faults="save, lose, never"),
    "loss, told before": _of(CHOOSY, B, faults="save, lose, leave, reload"),
    "loss, twice": _of(A, faults="save, save, lose, lose"),
    "loss, then a restart": _of(A, faults="save, lose, restart"),
    "loss, more": _of(A, B, acts=(("stock", 0, 2),), faults="save, lose"),
    "loss, less": _of(A, B, stock=2, acts=(("stock", 0, 1),), faults="save, lose"),
    "loss, end": _of(A, B, acts=(("end",),), faults="save, lose"),
    "two recoveries": _of(A, recoveries=2, faults="save, lose, overlap, crash"),
    "two recoveries, two buyers": _of(A, B, recoveries=2, faults="restart, overlap"),
}
