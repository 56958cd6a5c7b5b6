"""Alerts name metrics that exist, each has its heading in the runbook, and Prometheus is told of every service."""

import copy
import re
from typing import Any

import pytest

from tests.support import deployment
from tests.support.alerts import RULES, SCRAPE, TESTS, alerts, faults_of, faults_of_tests, load, series

RULES_FILE = load(RULES)
ALERTS = alerts(RULES_FILE)
RUNBOOK = (deployment.ROOT / "docs" / "runbook.md").read_text()


def headings(page: str) -> list[str]:
    """The headings of the runbook that are names of alerts."""
    return re.findall(r"^### (Fairline\w+)$", page, re.MULTILINE)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_names_what_processes_expose(alert: dict[str, Any]) -> None:
    assert faults_of(alert) == []


@pytest.mark.parametrize(
    ("was", "spoilt", "fault"),
    [
        ("fairline_sale_recovering", "fairline_sale_halted", "there is no fairline_sale_halted"),
        ("fairline_sale_recovering", 'fairline_sale_recovering{sku="a"}', "fairline_sale_recovering has no label sku"),
        ("by (sale)", "by (buyer)", "nothing there has a label buyer"),
    ],
)
def test_an_alert_that_could_never_fire_is_found(was: str, spoilt: str, fault: str) -> None:
    alert = copy.deepcopy(next(alert for alert in ALERTS if alert["alert"] == "FairlineSaleHalted"))
    alert["expr"] = alert["expr"].replace(was, spoilt)
    assert any(found.endswith(fault) for found in faults_of(alert)), faults_of(alert)


def test_every_alert_has_its_heading_and_every_heading_its_alert() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names)
    assert headings(RUNBOOK) == names, "in the order of deploy/alerts.yaml"
    for alert in ALERTS:
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"


def test_every_alert_says_what_it_means_what_to_look_at_and_what_to_do() -> None:
    for name, text in re.findall(r"^### (Fairline\w+)$(.*?)(?=^##|\Z)", RUNBOOK, re.MULTILINE | re.DOTALL):
        for part in ("**Means**", "**Look at**", "**Do**"):
            assert part in text, f"{name}: {part}"


def test_every_alert_is_seen_to_fire_and_to_be_silent_on_series_as_processes_expose_them() -> None:
    tests = load(TESTS)
    assert faults_of_tests(RULES_FILE, tests) == []
    healthy = tests["tests"][0]
    assert {test["alertname"] for test in healthy["alert_rule_test"]} == {alert["alert"] for alert in ALERTS}
    assert not any(test.get("exp_alerts") for test in healthy["alert_rule_test"])
    used = {name for alert in ALERTS for name in series() if re.search(rf"\b{name}\b", alert["expr"])}
    given = {one["series"].partition("{")[0] for one in healthy["input_series"]}
    assert used - given == set(), "an alert is silent where it sees nothing"


def test_a_test_that_is_missing_or_made_of_other_series_is_found() -> None:
    tests = load(TESTS)
    tests["tests"] = [group for group in tests["tests"] if group["name"] != "FairlineDeadLetters"]
    assert faults_of_tests(RULES_FILE, tests) == ["FairlineDeadLetters is never seen to fire"]
    tests = load(TESTS)
    tests["tests"][-1]["input_series"][0]["series"] = 'fairline_frames_total{job="fairline-notifier", type="progress"}'
    assert faults_of_tests(RULES_FILE, tests) == [
        "FairlineListenersSlow: fairline_frames_total has the labels ['instance', 'job', 'type']"
    ]


def test_prometheus_asks_every_service_at_the_port_that_it_has_in_compose() -> None:
    services = deployment.compose(deployment.example_env())["services"]
    jobs = {job["job_name"]: job["dns_sd_configs"][0] for job in load(SCRAPE)["scrape_configs"]}
    assert set(jobs) == {f"fairline-{name}" for name in deployment.SETTINGS}
    for name in deployment.SETTINGS:
        asked, environment = jobs[f"fairline-{name}"], services[name]["environment"]
        port = environment.get("FAIRLINE_INTERNAL_PORT", environment.get("FAIRLINE_PORT"))
        assert (asked["names"], str(asked["port"])) == ([name], port)
    named = {job for alert in ALERTS for job in re.findall(r'job="([\w-]+)"', alert["expr"])}
    assert named == set(jobs), "the absence of each is noticed"
