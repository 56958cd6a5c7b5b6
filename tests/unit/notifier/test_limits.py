"""Limits that are known before the first client comes."""

import resource

import pytest

from fairline.runtime.settings import SettingsError, load
from notifier.server import FILES_BESIDE, most_connections
from notifier.settings import NotifierSettings

NEEDED = {
    "FAIRLINE_REDIS_URL": "redis://127.0.0.1:1",
    "FAIRLINE_TOKEN_KEYS": "a:" + "0123456789abcdef" * 2,
    "FAIRLINE_PORT": "0",
}


class Limit:
    """The limit of open files, as a process may see it."""

    def __init__(self, soft: int, hard: int) -> None:
        self.now = (soft, hard)

    def get(self, _: int) -> tuple[int, int]:
        return self.now

    def set(self, _: int, to: tuple[int, int]) -> None:
        self.now = to


@pytest.mark.parametrize(
    ("files", "most", "then"),
    [
        ((20_000, 20_000), 10_000, 20_000),
        ((1_024, 20_000), 10_000, 10_000 + FILES_BESIDE),
        ((1_024, 4_096), 4_096 - FILES_BESIDE, 4_096),
        ((64, 64), 1, 64),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 10_000, resource.RLIM_INFINITY),
        ((1_024, resource.RLIM_INFINITY), 10_000, 10_000 + FILES_BESIDE),
    ],
)
def test_connections_stay_within_the_open_files_allowed(
    monkeypatch: pytest.MonkeyPatch, files: tuple[int, int], most: int, then: int
) -> None:
    limit = Limit(*files)
    monkeypatch.setattr(resource, "getrlimit", limit.get)
    monkeypatch.setattr(resource, "setrlimit", limit.set)
    assert most_connections(10_000) == most
    assert limit.now == (then, files[1])


def test_settings_have_defaults_and_name_what_is_wrong() -> None:
    assert load(NotifierSettings, NEEDED).tick_ms == 250
    with pytest.raises(SettingsError, match="FAIRLINE_NOTIFIER_TICK_MS='0'"):
        load(NotifierSettings, NEEDED | {"FAIRLINE_NOTIFIER_TICK_MS": "0"})
    with pytest.raises(SettingsError, match="FAIRLINE_NOTIFIER_TICKMS: there is no such setting"):
        load(NotifierSettings, NEEDED | {"FAIRLINE_NOTIFIER_TICKMS": "250"})


def test_every_setting_says_what_it_is() -> None:
    for name in NotifierSettings.__annotations__.keys() - {"SECTION"}:
        assert NotifierSettings.model_fields[name].description, name
