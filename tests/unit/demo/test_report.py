import io
import json

from rich.console import Console

from fairline.demo.report import figures, joined, show
from fairline.demo.scenario import Scenario
from fairline.demo.verdict import Finding, judge
from tests.support.evidence import flawless

SCENARIO = Scenario(sale_id="sale", seed=7, buyers=6, requests=6, items=1, stock=3)


def test_the_figures_have_the_shape_that_outsiders_read() -> None:
    e = flawless()
    told = json.loads(json.dumps(figures(SCENARIO, e, judge(e))))
    assert told["verdict"] == "pass"
    assert told["scenario"]["answers"] == {"joined": 6}
    assert told["scenario"]["items"] == [
        {
            "sku": "teapot",
            "stock": 3,
            "confirmed": 3,
            "declined": 1,
            "sold_out": 2,
            "released": 0,
            "left_in_redis": 0,
            "rows_in_postgres": 3,
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


def test_one_broken_invariant_fails_the_whole() -> None:
    e = flawless()
    e.rows.pop()
    told = figures(SCENARIO, e, judge(e))
    assert told["verdict"] == "fail"


def test_an_invariant_holds_only_if_it_holds_in_both_sales() -> None:
    good, bad, no_limit = (
        Finding("pace", ok=True, evidence="good"),
        Finding("pace", ok=False, evidence="bad"),
        Finding("pace", ok=True, evidence="no limit was set"),
    )
    assert joined([good], [good]) == [good]
    assert joined([bad], [good]) == [bad]
    assert joined([good], [bad]) == [Finding("pace", ok=False, evidence="paced sale, bad")]
    assert joined([bad], [bad]) == [Finding("pace", ok=False, evidence="bad; paced sale: bad")]
    assert joined([no_limit], [good]) == [Finding("pace", ok=True, evidence="paced sale, good")]


def test_people_read_every_figure_and_every_verdict() -> None:
    e = flawless()
    e.rows.pop()
    out = io.StringIO()
    show(Console(file=out, width=120), figures(SCENARIO, e, judge(e)))
    text = out.getvalue()
    for wanted in ("6 requests of 6 buyers", "joined", "teapot", "BROKEN", "holds", "8 nothing in secret", "fail"):
        assert wanted in text
