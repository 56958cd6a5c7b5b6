"""Limits that are known before the first client comes."""

import pytest

from fairline.runtime.settings import SettingsError, load
from notifier.settings import NotifierSettings

NEEDED = {
    "FAIRLINE_REDIS_URL": "redis://127.0.0.1:1",
    "FAIRLINE_TOKEN_KEYS": "a:" + "0123456789abcdef" * 2,
    "FAIRLINE_PORT": "0",
}


def test_settings_have_defaults_and_name_what_is_wrong() -> None:
    assert load(NotifierSettings, NEEDED).tick_ms == 250
    with pytest.raises(SettingsError, match="FAIRLINE_NOTIFIER_TICK_MS='0'"):
        load(NotifierSettings, NEEDED | {"FAIRLINE_NOTIFIER_TICK_MS": "0"})
    with pytest.raises(SettingsError, match="FAIRLINE_NOTIFIER_TICKMS: there is no such setting"):
        load(NotifierSettings, NEEDED | {"FAIRLINE_NOTIFIER_TICKMS": "250"})


def test_every_setting_says_what_it_is() -> None:
    for name in NotifierSettings.__annotations__.keys() - {"SECTION"}:
        assert NotifierSettings.model_fields[name].description, name
