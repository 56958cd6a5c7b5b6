"""Prometheus's own tool reads the alert rules: they are valid, fire on trouble, and are silent on a healthy sale."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.alerts import RULES, SCRAPE, TESTS
from tests.support.deployment import DEPLOY
from tests.support.stack import cannot_be_had

FETCH_WITHIN_S = 600


@pytest.fixture(scope="module")
def promtool() -> str:
    """One on PATH, or Debian's."""
    found = subprocess.run(
        [DEPLOY / "get-promtool"], capture_output=True, text=True, timeout=FETCH_WITHIN_S, check=False
    )
    if found.returncode:
        cannot_be_had(found.stderr)
    return found.stdout.strip()


def said(*command: str | Path) -> tuple[int, str]:
    """The exit code and what was printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.timeout(FETCH_WITHIN_S + 120)
def test_each_alert_fires_on_its_trouble_and_not_on_a_healthy_sale(promtool: str) -> None:
    code, text = said(promtool, "test", "rules", TESTS)
    assert code == 0, text
    assert "SUCCESS" in text


def test_the_files_are_what_prometheus_reads(promtool: str) -> None:
    code, text = said(promtool, "check", "config", SCRAPE)  # and the rules that it names
    assert code == 0, text
    assert f"{RULES.name}" in text


def test_an_alert_that_fires_too_late_fails_its_test(promtool: str, tmp_path: Path) -> None:
    shutil.copy(TESTS, tmp_path)
    spoilt = RULES.read_text().replace("[10m])) > 0\n", "[10m])) > 1000\n")
    assert spoilt != RULES.read_text()
    (tmp_path / RULES.name).write_text(spoilt)
    code, text = said(promtool, "test", "rules", tmp_path / TESTS.name)
    assert code == 1
    assert "FairlineDeadLetters" in text
