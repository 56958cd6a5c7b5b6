"""fairline.runtime.settings: what stops a start, and what it says."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field, SecretStr

from fairline.runtime.settings import ListenSettings, ProcessSettings, RedisSettings, SettingsError, load, section


class Settings(ProcessSettings, RedisSettings, ListenSettings):
    """Those of a service that there might be."""

    SECTION: ClassVar[str] = "GATEWAY"
    model_config = section("GATEWAY")

    max_waiting: int = Field(10, ge=1, le=100, description="who may wait")
    password: SecretStr = Field(SecretStr("none"), min_length=4, description="a secret")


ENV = {"FAIRLINE_REDIS_URL": "redis://localhost:6379/0", "FAIRLINE_PORT": "8080"}


def _faults(**env: str) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(Settings, {**ENV, **env})
    return str(refused.value).splitlines()


def test_what_is_not_said_has_its_default_and_text_becomes_a_number() -> None:
    settings = load(Settings, ENV | {"FAIRLINE_GATEWAY_MAX_WAITING": "7"})
    assert (settings.port, settings.max_waiting, settings.host, settings.drain_s) == (8080, 7, "127.0.0.1", 5.0)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(Settings, ENV).port = 1


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    assert load(Settings).port == 8080


def test_what_is_missing_is_named() -> None:
    with pytest.raises(SettingsError) as refused:
        load(Settings, {})
    assert sorted(str(refused.value).splitlines()) == [
        "FAIRLINE_PORT: is required; set it in the environment",
        "FAIRLINE_REDIS_URL: is required; set it in the environment",
    ]


def test_what_is_wrong_is_named_with_its_value_and_what_is_allowed() -> None:
    [fault] = _faults(FAIRLINE_GATEWAY_MAX_WAITING="0")
    assert fault == "FAIRLINE_GATEWAY_MAX_WAITING='0': Input should be greater than or equal to 1"
    [fault] = _faults(FAIRLINE_PORT="http")
    assert fault.startswith("FAIRLINE_PORT='http': Input should be a valid integer")
    [fault] = _faults(FAIRLINE_REDIS_URL="localhost")
    assert fault.startswith("FAIRLINE_REDIS_URL='localhost': ")


def test_every_fault_is_told_at_once() -> None:
    assert len(_faults(FAIRLINE_PORT="99999", FAIRLINE_LOG_LEVEL="loud", FAIRLINE_TYPO="1")) == 3


def test_a_setting_that_nobody_knows_stops_the_start() -> None:
    assert _faults(FAIRLINE_GATEWAY_MAX_WAITNG="5") == ["FAIRLINE_GATEWAY_MAX_WAITNG: there is no such setting"]
    assert _faults(FAIRLINE_RDIS_URL="x") == ["FAIRLINE_RDIS_URL: there is no such setting"]


def test_settings_of_others_and_of_nobody_here_are_let_be() -> None:
    others = {"FAIRLINE_ADMISSION_LEASE_MS": "5", "FAIRLINE_KAFKA": "x:1", "FAIRLINE_DATA": "y", "PATH": "z"}
    others |= {"FAIRLINE_TOKEN_KEYS_FILE": "/nowhere", "fairline_port": "1"}
    assert load(Settings, ENV | others).port == 8080


def test_a_secret_may_stand_in_a_file_and_loses_its_last_newline(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter22\n")
    settings = load(Settings, ENV | {"FAIRLINE_GATEWAY_PASSWORD_FILE": str(tmp_path / "secret")})
    assert settings.password.get_secret_value() == "hunter22"
    assert "hunter" not in repr(settings)


def test_a_file_that_cannot_be_read_is_a_fault_and_so_is_a_setting_given_twice(tmp_path: Path) -> None:
    [fault] = _faults(FAIRLINE_GATEWAY_PASSWORD_FILE=str(tmp_path / "none"))
    assert fault == f"FAIRLINE_GATEWAY_PASSWORD_FILE='{tmp_path / 'none'}': cannot be read: No such file or directory"
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    [fault] = _faults(FAIRLINE_GATEWAY_PASSWORD_FILE=str(tmp_path / "bytes"))
    assert fault.endswith("cannot be read: it is not text in UTF-8")
    [fault] = _faults(FAIRLINE_GATEWAY_PASSWORD_FILE="/dev/null", FAIRLINE_GATEWAY_PASSWORD="hunter22")
    assert fault == "FAIRLINE_GATEWAY_PASSWORD: is given twice, by FAIRLINE_GATEWAY_PASSWORD_FILE too; keep one"


def test_a_wrong_secret_is_named_and_never_shown(tmp_path: Path) -> None:
    [fault] = _faults(FAIRLINE_GATEWAY_PASSWORD="abc")
    assert fault.startswith("FAIRLINE_GATEWAY_PASSWORD: ")
    assert "abc" not in fault
