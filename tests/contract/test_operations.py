"""``docs/operations.md`` says what the code says: its tables are written from it, its names exist."""

import ast
import re
import shlex

import pytest

from fairline.runtime.metrics import Metrics
from fairline.runtime.settings import ELSEWHERE
from fairline.store import fence
from tests.support import deployment, reference
from tests.support.reference import PAGE, written

PAGE_TEXT = PAGE.read_text()


def test_the_tables_of_settings_and_metrics_are_those_of_the_code() -> None:
    assert written(PAGE_TEXT) == PAGE_TEXT, "write it anew: python -m tests.support.reference"


@pytest.mark.parametrize(
    ("was", "changed"),
    [
        ("`FAIRLINE_ADMISSION_LEASE_MS` | `10000`", "`FAIRLINE_ADMISSION_LEASE_MS` | `9000`"),
        ("| `FAIRLINE_REDIS_URL` |", "| `FAIRLINE_REDIS_ADDRESS` |"),
        ("| `fairline_outbox` | gauge |", "| `fairline_outbox` | counter |"),
    ],
)
def test_a_table_that_says_something_else_is_found(was: str, changed: str) -> None:
    assert was in PAGE_TEXT
    spoilt = PAGE_TEXT.replace(was, changed)
    assert written(spoilt) != spoilt
    assert written(spoilt) == PAGE_TEXT


def test_a_page_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place for the metrics"):
        written(PAGE_TEXT.replace("<!-- metrics: end -->", ""))


def test_every_setting_says_what_it_means() -> None:
    silent = [
        name
        for service in deployment.SETTINGS
        for name, (field, _) in reference.properties(service).items()
        if not field.get("description")
    ]
    assert silent == []


def test_every_setting_that_the_page_names_exists() -> None:
    known = {name for service in deployment.SETTINGS for name in reference.properties(service)}
    known |= {*ELSEWHERE, "FAIRLINE_GATEWAY_PORT"}  # of the local stack
    named = set(re.findall(r"\bFAIRLINE_[A-Z0-9_]*[A-Z0-9]", PAGE_TEXT)) - {"FAIRLINE_NAME_FILE"}
    assert len(named) > len(known) / 2
    assert named - known == set()


def test_every_metric_that_the_page_names_exists() -> None:
    known = {row.split("`")[1] for row in list(reference.metrics())[2:]}
    named = set(re.findall(r"\bfairline_[a-z_]+\b", PAGE_TEXT))
    assert named == known
    assert len(known) == len(vars(Metrics())) - 1


def test_every_page_and_file_that_the_page_names_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE_TEXT)
    files = re.findall(r"\b(?:deploy|tests)/[\w./-]+\w", PAGE_TEXT)
    made = {
        "deploy/secrets",
        "deploy/secrets/token_keys",
        "deploy/.env",
        "deploy/settings.env",
    }  # by make-secrets, or by the operator
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
    assert [file for file in files if file not in made and not (deployment.ROOT / file).exists()] == []


def test_the_commands_for_a_planned_restart_are_python_that_exists() -> None:
    lines = [line for line in PAGE_TEXT.splitlines() if " python -c " in line]
    programs = [shlex.split(line)[-1] for line in lines]
    called = {
        node.func.attr
        for program in programs
        for node in ast.walk(ast.parse(program))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "fence"
    }
    assert called == {"kept_identity", "adopt"}
    assert all(callable(getattr(fence, name)) for name in called)
    assert all("redis://valkey:6379/0" in program for program in programs)


def test_ports_on_the_page_are_those_of_compose() -> None:
    services = deployment.compose(deployment.example_env())["services"]
    assert f"| gateway | {services['gateway']['environment']['FAIRLINE_PORT']} |" in PAGE_TEXT
    assert f"| notifier | {services['notifier']['environment']['FAIRLINE_PORT']} |" in PAGE_TEXT
    internal = {
        services[name]["environment"]["FAIRLINE_INTERNAL_PORT"] for name in deployment.SETTINGS if name != "gateway"
    }
    assert internal == {"9100"}
    assert "| notifier, admission, order_service | 9100 |" in PAGE_TEXT
