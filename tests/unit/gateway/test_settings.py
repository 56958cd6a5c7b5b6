"""Settings: what would be dangerous does not start."""

from typing import Any

import pytest

from fairline.runtime.settings import SettingsError
from tests.support.gateway import settings_of


def settings(**more: str) -> Any:
    return settings_of("redis://127.0.0.1:1", 1, **more)


STRONG = "0123456789abcdefghijklmnopqrstuvwxyz"


def test_the_longest_operator_key_that_a_call_may_bring_is_taken() -> None:
    assert settings(OPERATOR_KEY=(STRONG * 15)[:512]).operator_key is not None


@pytest.mark.parametrize(
    "key",
    [
        *("short", "", "a" * 64, "ü" * 40, "with\tcontrols-0123456789-0123456789"),
        *((STRONG * 15)[:513], f" {STRONG}", f"{STRONG} "),  # these would open nothing
    ],
)
def test_a_weak_or_useless_operator_key_stops_the_start_and_is_not_shown(key: str) -> None:
    with pytest.raises(SettingsError, match=r"FAIRLINE_OPERATOR_KEY: .*32 to 512 random") as caught:
        settings(OPERATOR_KEY=key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("keys", ["nonsense", "kid:short", "", "a:" + "x" * 40])
def test_weak_token_keys_stop_the_start_and_are_not_shown(keys: str) -> None:
    with pytest.raises(SettingsError, match="FAIRLINE_TOKEN_KEYS") as caught:
        settings(TOKEN_KEYS=keys)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_REQUESTS", "0"),
        ("BATCH_TICKETS", "257"),
        ("FRAME_MS", "101"),
        ("BODY_TIMEOUT_S", "nan"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://shop.example/path"),
        ("NO_SUCH", "1"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"FAIRLINE_GATEWAY_{name}"):
        settings(**{f"GATEWAY_{name}": value})


def test_origins_are_a_list() -> None:
    found = settings(GATEWAY_CORS_ORIGINS="https://shop.example,http://localhost:8080").origins
    assert found == ("https://shop.example", "http://localhost:8080")
    assert settings().origins == ()


def test_every_setting_of_its_own_has_a_description() -> None:
    fields = type(settings()).model_fields
    own = {name: field for name, field in fields.items() if (field.alias or "").startswith("FAIRLINE_GATEWAY_")}
    own.pop("gateway_url", None)
    assert all(field.description for field in own.values()), own
