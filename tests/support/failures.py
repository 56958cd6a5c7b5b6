"""What every call answers while a part is away, and what becomes of the data: the table behind ``docs/failures.md``.

    python -m tests.support.failures        writes the page's tables anew

``tests/chaos/test_failures.py`` takes each part away and asks all of it; a contract test fails while the page differs
from this table, or names a test or an alert that there is not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from fairline.states import State
from tests.support.deployment import ROOT

PAGE: Final = ROOT / "docs" / "failures.md"
BEGIN, END = "<!-- failures: begin -->", "<!-- failures: end -->"
SHOWN_BY: Final = "tests/chaos/test_failures.py::test_every_call_answers_what_the_table_says"

# The calls, in the order of the columns.
CALLS: Final[Mapping[str, str]] = {
    "sale": "`GET` sale",
    "join": "join",
    "status": "status",
    "leave": "leave",
    "socket": "WebSocket",
    "room": "room page",
    "read": "operator reads",
    "change": "operator changes",
    "stock": "stock, open",
    "history": "history, records",
}
NO_ANSWER: Final = "no answer"
GOOD: Final[Mapping[str, str]] = dict.fromkeys(CALLS, "200") | {"join": "202", "socket": "WAITING"}
_RECOVERING: Final = "503 recovering"
_UNAVAILABLE: Final = "503 unavailable"
_REDIS: Final = frozenset({"redis"})
_ALL_MISS_REDIS: Final[Mapping[str, frozenset[str]]] = dict.fromkeys(("gateway", "admission", "notifier"), _REDIS)
_OF_REDIS: Final = ("sale", "join", "status", "leave", "read", "change", "stock")
_KEPT: Final = "nothing is lost"
_LOST: Final = "tests/chaos/test_lost_redis.py::"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One part away. ``comes_to``: how far a ticket gets that joins meanwhile, empty where nobody can join."""

    name: str
    differs: Mapping[str, str] = field(default_factory=dict)  # from GOOD
    missing: Mapping[str, frozenset[str]] = field(default_factory=dict)  # by service, in its /readyz
    comes_to: str = ""
    buyer: str
    data: str
    alerts: tuple[str, ...]
    also: tuple[str, ...] = ()

    @property
    def answers(self) -> dict[str, str]:
        """What each call answers."""
        return {**GOOD, **self.differs}


FAILURES: Final = (
    Failure(
        name="gateway down",
        differs=dict.fromkeys((call for call in CALLS if call != "socket"), NO_ANSWER),
        buyer="errors of the proxy; whoever listens is told all the same",
        data=f"{_KEPT}; admission, orders and results go on",
        alerts=("FairlineServiceDown",),
        also=("tests/chaos/test_kills.py::test_a_service_that_is_killed_under_load_loses_nothing",),
    ),
    Failure(
        name="admission down",
        differs={"stock": "503 not_acknowledged"},
        comes_to=State.WAITING,
        buyer="a place that does not move",
        data="leases end and their tickets go back to their places; facts wait in the outbox",
        alerts=("FairlineServiceDown", "FairlineLineStands"),
        also=("tests/chaos/test_zombie.py::test_a_frozen_controller_wakes_up_after_its_leases_and_does_no_harm",),
    ),
    Failure(
        name="order_service down",
        differs={"stock": "503 not_acknowledged", "history": _UNAVAILABLE},
        comes_to=State.RESERVED,
        buyer="RESERVED, the result comes later",
        data="orders wait in Kafka, and are sent again without harm",
        alerts=("FairlineServiceDown", "FairlineOrdersSentAgain", "FairlineAdmissionSlowed"),
        also=("tests/chaos/test_orders_topic.py::test_orders_that_were_sent_again_and_again_have_one_outcome_each",),
    ),
    Failure(
        name="notifier down",
        differs={"socket": NO_ANSWER},
        comes_to=State.CONFIRMED,
        buyer="the page asks the status instead, and says so",
        data="not touched: a notifier writes nothing",
        alerts=("FairlineServiceDown",),
        also=("tests/chaos/test_kills.py::test_a_service_that_is_killed_under_load_loses_nothing",),
    ),
    Failure(
        name="Redis frozen",
        differs=dict.fromkeys(_OF_REDIS, _UNAVAILABLE) | {"socket": "recovering"},
        missing=_ALL_MISS_REDIS,
        buyer="come back in a moment; the page says that places are kept",
        data="what was asked may still be done when Redis wakes up: the same Idempotency-Key finds the ticket",
        alerts=("FairlineServerAway", "FairlineBuyersRefused"),
        also=("tests/chaos/test_outages.py::test_a_frozen_redis_is_told_at_once_and_all_goes_on_when_it_is_back",),
    ),
    Failure(
        name="Redis down",
        differs=dict.fromkeys(_OF_REDIS, _UNAVAILABLE) | {"socket": "recovering"},
        missing=_ALL_MISS_REDIS,
        buyer="as when it is frozen",
        data="orders that had left Redis are written; it comes back as another one, see below",
        alerts=("FairlineServerAway", "FairlineBuyersRefused"),
        also=(
            _LOST + "test_a_sale_whose_redis_is_killed_in_the_surge_goes_on_by_itself_and_everybody_is_told_one_end",
        ),
    ),
    Failure(
        name="Redis restarted, not yet rebuilt",
        differs=dict.fromkeys(_OF_REDIS, _RECOVERING) | {"socket": "recovering"},
        buyer="`recovering`: places are kept",
        data="it may lack its last second, so nothing is admitted, sold or told until the sale is rebuilt",
        alerts=("FairlineSaleHalted",),
        also=(
            _LOST + "test_while_a_sale_cannot_be_rebuilt_everybody_reads_recovering_and_nothing_is_sold",
            "tests/e2e/test_clean_stop.py",
        ),
    ),
    Failure(
        name="Redis emptied, not yet rebuilt",
        differs=dict.fromkeys(_OF_REDIS, _RECOVERING) | {"socket": "recovering"},
        buyer="`recovering`, also at a gateway that was started since and for a sale that nobody knows",
        data="what Kafka and Postgres hold is there; nothing is sold or told until the sale is rebuilt",
        alerts=("FairlineSaleHalted", "FairlineBuyersRefused"),
        also=(
            "tests/integration/gateway/test_trouble.py::test_a_sale_that_redis_forgot_is_recovering_where_it_was_known",
        ),
    ),
    Failure(
        name="Kafka down",
        differs={"stock": "503 not_acknowledged"},
        missing={
            "admission": frozenset({"kafka", "results"}),
            "order_service": frozenset({"kafka", "fairline.orders", "fairline.sales", "fairline.tickets"}),
        },
        comes_to=State.RESERVED,
        buyer="RESERVED, the result comes later; once the outbox is full, a place that does not move",
        data="facts wait in the outbox, up to its limit, and are relayed in order",
        alerts=("FairlineServerAway", "FairlineOutboxStands"),
        also=("tests/chaos/test_outages.py::test_orders_wait_for_a_server_that_is_away",),
    ),
    Failure(
        name="Postgres down",
        differs={"stock": "503 not_acknowledged", "history": _UNAVAILABLE},
        missing={"order_service": frozenset({"postgres"})},
        comes_to=State.RESERVED,
        buyer="RESERVED, the result comes later",
        data="orders wait in Kafka",
        alerts=("FairlineServerAway", "FairlinePostgresAway", "FairlineAdmissionSlowed"),
        also=("tests/chaos/test_outages.py::test_orders_wait_for_a_server_that_is_away",),
    ),
    Failure(
        name="Postgres full",
        differs={"stock": "503 not_acknowledged"},
        comes_to=State.RESERVED,
        buyer="RESERVED, the result comes later",
        data="orders wait in Kafka; none is given up, as a full disk is *later*",
        alerts=("FairlinePostgresAway",),
    ),
    Failure(
        name="Postgres read-only",
        differs={"stock": "503 not_acknowledged"},
        comes_to=State.RESERVED,
        buyer="RESERVED, the result comes later",
        data="as when it is full",
        alerts=("FairlinePostgresAway",),
    ),
    Failure(
        name="Postgres locked",
        differs={"stock": "503 not_acknowledged", "history": _UNAVAILABLE},
        missing={"order_service": frozenset({"postgres"})},
        comes_to=State.RESERVED,
        buyer="RESERVED, the result comes later",
        data="orders wait in Kafka; a statement ends with its time limit and is tried again",
        alerts=("FairlineServerAway", "FairlinePostgresAway", "FairlineReadersBehind"),
    ),
    Failure(
        name="shop's endpoint down",
        comes_to=State.ADMITTED,
        buyer="a place that does not move; whoever was admitted already waits",
        data="the breaker opens; nobody's tries are spent, and all keep their places",
        alerts=("FairlineBreakerOpen",),
        also=("tests/integration/admission/test_desk.py",),
    ),
)


def written(page: str) -> str:
    """The page with its tables as they are here; raises ``ValueError`` when it has no place for them."""
    before, found, rest = page.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not (found and closed):
        raise ValueError(f"the page has no place for the tables: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n" + "\n".join(lines()) + f"\n{END}{after}"


def lines() -> Iterator[str]:
    """Two tables: what the calls answer, and what it means."""
    yield "### What every call answers"
    yield ""
    yield f"| away | {' | '.join(CALLS.values())} |"
    yield f"|---|{'---|' * len(CALLS)}"
    for failure in FAILURES:
        cells = (_cell(failure.answers[call], GOOD[call]) for call in CALLS)
        yield f"| {failure.name} | {' | '.join(cells)} |"
    yield ""
    yield "### What it means"
    yield ""
    yield "| away | a buyer sees | a ticket that joins comes to | an operator sees | the data | shown by, besides |"
    yield "|---|---|---|---|---|---|"
    for failure in FAILURES:
        comes_to = failure.comes_to or "nobody can join"
        yield (
            f"| {failure.name} | {failure.buyer} | {comes_to} | {_seen_by_operators(failure)} | {failure.data} "
            f"| {', '.join(f'`{test}`' for test in failure.also) or 'the test above'} |"
        )


def _cell(answer: str, good: str) -> str:
    return answer if answer == good else f"**{answer}**"


def _seen_by_operators(failure: Failure) -> str:
    alerts = ", ".join(f"[{alert}](runbook.md#{alert.lower()})" for alert in failure.alerts)
    lacking = "; ".join(f"{service} lacks {', '.join(sorted(what))}" for service, what in failure.missing.items())
    return f"{alerts}; `/readyz`: {lacking}" if lacking else alerts


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
