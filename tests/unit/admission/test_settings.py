"""What admission is told at its start: good values are taken, bad ones are named."""

import pytest

from fairline.runtime.settings import SettingsError
from tests.support.admission import admission_settings


def test_the_defaults_fit_together() -> None:
    settings = admission_settings()
    assert settings.lease_ms > 2 * settings.margin_ms
    assert settings.redrive_longest_ms >= settings.redrive_after_ms


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tick_ms", 0),
        ("tick_ms", "soon"),
        ("keep_ms", 5000),
        ("batch", 0),
        ("batch", 10_000),
        ("batches", -1),
        ("lease_ms", 1),
        ("max_tries", 0),
        ("outbox_limit", 1),
        ("relay_batch", 1.5),
        ("relay_timeout_ms", "nan"),
        ("redrive_after_ms", 0),
        ("settle_batch", 0),
        ("validator_tries", 0),
        ("validator_connections", 0),
        ("breaker_failures", 0),
        ("breaker_rest_ms", 10**9),
    ],
)
def test_a_value_out_of_its_bounds_is_named_and_shown(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"FAIRLINE_ADMISSION_{name.upper()}='{value}'"):
        admission_settings(**{name: value})


def test_a_margin_of_more_than_half_the_lease_is_refused() -> None:
    with pytest.raises(SettingsError, match="FAIRLINE_ADMISSION_MARGIN_MS=600: must be at most half of"):
        admission_settings(lease_ms=1000, margin_ms=600)
    assert admission_settings(lease_ms=1200, margin_ms=600).margin_ms == 600


def test_a_redrive_that_shrinks_is_refused() -> None:
    with pytest.raises(SettingsError, match="REDRIVE_LONGEST_MS"):
        admission_settings(redrive_after_ms=60_000, redrive_longest_ms=1000)


def test_a_setting_that_nobody_knows_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="FAIRLINE_ADMISSION_BATCHS: there is no such setting"):
        admission_settings(batchs=3)
