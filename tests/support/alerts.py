"""Reads ``deploy/alerts.yaml`` and its tests, and compares what they name with the catalogue of metrics.

Not a parser of PromQL: names, the selectors behind them and the labels in ``by (...)`` and ``on (...)`` are found by
their form. That the expressions are valid, and fire when they should, is for promtool to say (test_promtool.py).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from fairline.runtime.metrics import Metrics
from tests.support.deployment import DEPLOY

RULES: Final = DEPLOY / "alerts.yaml"
TESTS: Final = DEPLOY / "alerts-test.yaml"
SCRAPE: Final = DEPLOY / "prometheus.yaml"

_OF_PROMETHEUS: Final = {"job", "instance"}  # labels that it adds to every series
_OTHERS: Final[Mapping[str, frozenset[str]]] = {
    "up": frozenset(),
    "process_start_time_seconds": frozenset(),
    "process_open_fds": frozenset(),
    "process_max_fds": frozenset(),
}
_NAME: Final = re.compile(r'\b(up|(?:fairline|process)_\w+)(?:\{([^}"]*(?:"[^"]*"[^}"]*)*)\})?')
_LABEL: Final = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_GROUPED: Final = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def series() -> dict[str, frozenset[str]]:
    """The labels of every series that a process exposes, by its name as Prometheus has it."""
    known = dict(_OTHERS)
    for attribute, metric in vars(Metrics()).items():
        if attribute == "registry":
            continue
        (family,) = metric.describe()
        labels = frozenset(metric._labelnames)
        match family.type:
            case "counter":
                known[f"{family.name}_total"] = labels
            case "histogram":
                known[f"{family.name}_bucket"] = labels | {"le"}
                known[f"{family.name}_sum"] = known[f"{family.name}_count"] = labels
            case _:
                known[family.name] = labels
    return known


def alerts(rules: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All alerts of a rule file, in their order."""
    return [rule for group in rules["groups"] for rule in group["rules"]]


def named(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each series that an expression names, with the labels that it is selected by."""
    without_notes = re.sub(r"(?m)\s#.*$", "", expression)
    for name, selector in _NAME.findall(without_notes):
        yield name, set(_LABEL.findall(selector))


def faults_of(alert: Mapping[str, Any]) -> list[str]:
    """What in an alert no process exposes, and what every alert must have and this one lacks."""
    known, faults, seen = series(), list[str](), set[str]()
    for name, labels in named(alert["expr"]):
        if name not in known:
            faults.append(f"{alert['alert']}: there is no {name}")
            continue
        seen |= known[name] | _OF_PROMETHEUS
        faults += [f"{alert['alert']}: {name} has no label {label}" for label in labels - known[name] - _OF_PROMETHEUS]
    text = str(alert.get("annotations", {}))
    wanted = {word.strip() for group in _GROUPED.findall(alert["expr"]) for word in group.split(",") if word.strip()}
    wanted |= set(re.findall(r"\$labels\.(\w+)", text))
    faults += [f"{alert['alert']}: nothing there has a label {label}" for label in wanted - seen]
    if alert.get("labels", {}).get("severity") not in {"critical", "warning"}:
        faults.append(f"{alert['alert']}: severity is critical or warning")
    faults += [f"{alert['alert']}: no {word}" for word in ("summary", "runbook_url") if word not in text]
    return faults


def faults_of_tests(rules: Mapping[str, Any], tests: Mapping[str, Any]) -> list[str]:
    """Alerts that are never seen to fire, or never seen to be silent, and series that no process exposes."""
    known, faults = series(), list[str]()
    fires, silent = set[str](), set[str]()
    for group in tests["tests"]:
        for one in group["input_series"]:
            ((name, labels),) = named(one["series"])
            if name not in known:
                faults.append(f"{group['name']}: there is no {name}")
            elif labels != known[name] | _OF_PROMETHEUS:
                faults.append(f"{group['name']}: {name} has the labels {sorted(known[name] | _OF_PROMETHEUS)}")
        for test in group["alert_rule_test"]:
            (fires if test.get("exp_alerts") else silent).add(test["alertname"])
    for alert in alerts(rules):
        name = alert["alert"]
        faults += [
            f"{name} is never seen to {word}" for word, at in (("fire", fires), ("be silent", silent)) if name not in at
        ]
    return faults


def load(path: Any) -> dict[str, Any]:
    """A YAML file of ours."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found
