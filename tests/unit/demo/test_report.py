import io
import json

from rich.console import Console

from fairline.demo.log import JOINED, Call, Held, Log
from fairline.demo.report import Invariant, Played, figures, joined, show
from fairline.demo.scenario import Scenario
from fairline.states import State
from loadtest.report import Finding
from tests.support.paper_sale import SEAT, PaperSale

SCENARIO = Scenario(sale_id="sale", seed=7, buyers=3, requests=3, items=1, stock=2)


def sold() -> Played:
    """Two buy, the third is declined; a request a second, answered after 10 ms, told its end after 50."""
    sale = PaperSale(stock=2)
    anna, bert, carl = (sale.join(name) for name in ("anna", "bert", "carl"))
    sale.buy(anna, bert)
    sale.end(carl, State.SOLD_OUT)
    sale.rest()
    log = Log(began_s=100.0)
    for at, (name, ticket) in enumerate(sale.tickets.items()):
        sent_s = 100.0 + at
        log.calls.append(Call(sent_s, sent_s + 0.01, JOINED, attempts=1))
        log.tickets[name] = Held(name, SEAT, ticket.arrival, "", "", "", sent_s)
        log.tickets[name].hear(ticket.state, sent_s + 0.05)
    return Played(log=log, finals=sale.finals(), last_row_s=101.0, findings=sale.findings())


def invariants() -> list[Invariant]:
    return joined(sold().findings, sold().findings)


def a_finding(verdict: str, evidence: str) -> Finding:
    return Finding(number=6, name="pace", verdict=verdict, evidence=evidence)  # type: ignore[arg-type]


def test_the_figures_have_the_shape_that_outsiders_read() -> None:
    told = json.loads(json.dumps(figures(SCENARIO, sold(), invariants())))
    assert told["verdict"] == "pass"
    assert told["scenario"]["answers"] == {"joined": 3}
    assert told["scenario"]["items"] == [
        {
            "sku": "seat",
            "stock": 2,
            "confirmed": 2,
            "declined": 0,
            "sold_out": 1,
            "released": 0,
            "left_in_redis": 0,
            "rows_in_postgres": 2,
        }
    ]
    assert set(told) == {
        "verdict",
        "scenario",
        "wall_s",
        "requests_per_s",
        "join_ms",
        "result_ms",
        "invariants",
    }
    assert set(told["wall_s"]) == {"answered", "persisted", "told"}
    assert set(told["join_ms"]) == set(told["result_ms"]) == {"p50", "p95", "p99"}
    assert [set(each) for each in told["invariants"]] == [{"name", "ok", "evidence"}] * 8
    assert told["join_ms"]["p50"] == 10.0
    assert told["result_ms"]["p50"] == 50.0


def test_an_invariant_holds_only_if_it_surely_holds_in_both_sales() -> None:
    good, bad, unsure = a_finding("ok", "good"), a_finding("violated", "bad"), a_finding("cannot tell", "hm")
    no_limit = a_finding("ok", "no limit was set")
    assert joined([good], [good]) == [Invariant("pace", ok=True, evidence="good")]
    assert joined([bad], [good]) == [Invariant("pace", ok=False, evidence="bad")]
    assert joined([good], [bad]) == [Invariant("pace", ok=False, evidence="paced sale, bad")]
    assert joined([bad], [bad]) == [Invariant("pace", ok=False, evidence="bad; paced sale: bad")]
    assert joined([no_limit], [good]) == [Invariant("pace", ok=True, evidence="paced sale, good")]
    assert joined([unsure], [good]) == [Invariant("pace", ok=False, evidence="hm")]
    assert joined([good], [unsure]) == [Invariant("pace", ok=False, evidence="paced sale, hm")]


def test_people_read_every_figure_and_every_verdict_and_one_broken_invariant_fails_the_whole() -> None:
    broken = [*invariants()[:-1], Invariant("nothing in secret", ok=False, evidence="a secret")]
    told = figures(SCENARIO, sold(), broken)
    assert told["verdict"] == "fail"
    out = io.StringIO()
    show(Console(file=out, width=120), told)
    text = out.getvalue()
    for wanted in ("3 requests of 3 buyers", "joined", "seat", "BROKEN", "holds", "8 nothing in secret", "fail"):
        assert wanted in text
