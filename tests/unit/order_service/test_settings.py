"""What the order service accepts from its environment."""

import pytest

from fairline.runtime.settings import SettingsError, load
from order_service.settings import OrderServiceSettings

NEEDED = {"FAIRLINE_KAFKA": "127.0.0.1:9092", "FAIRLINE_POSTGRES_DSN": "postgresql://a:secret@h/d"}


def test_the_addresses_are_all_it_needs() -> None:
    assert load(OrderServiceSettings, NEEDED).batch == 500


@pytest.mark.parametrize("name", NEEDED)
def test_an_address_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(OrderServiceSettings, {key: value for key, value in NEEDED.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCH", "0"),
        ("BATCH", "many"),
        ("ATTEMPTS", "0"),
        ("POOL", "1"),
        ("DEFERRED", "-1"),
        ("DEAD_LETTERS_SHARE", "0"),
        ("POLL_MS", "0"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"FAIRLINE_ORDER_SERVICE_{name}='{value}'"):
        load(OrderServiceSettings, {**NEEDED, f"FAIRLINE_ORDER_SERVICE_{name}": value})


def test_an_address_that_is_not_of_postgres_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match=r"FAIRLINE_POSTGRES_DSN.*postgresql://") as refused:
        load(OrderServiceSettings, {**NEEDED, "FAIRLINE_POSTGRES_DSN": "mysql://a:secret@h/d"})
    assert "secret" not in str(refused.value).replace("a secret", "")


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(load(OrderServiceSettings, NEEDED))


def test_every_setting_says_what_it_is() -> None:
    own = [field for name, field in OrderServiceSettings.model_fields.items() if "ORDER_SERVICE" in str(field.alias)]
    assert own
    assert all(field.description for field in own)
