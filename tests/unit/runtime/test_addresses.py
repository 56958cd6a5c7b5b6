"""Every setting that is an address is checked before anything starts, and no password is shown."""

import pytest
from pydantic_settings import BaseSettings

from fairline.runtime.settings import (
    AddressSettings,
    KafkaSettings,
    ListenSettings,
    PostgresSettings,
    ProcessSettings,
    RecordsSettings,
    RedisSettings,
    SettingsError,
    load,
)
from notifier.settings import NotifierSettings

GOOD = {
    "FAIRLINE_REDIS_URL": "redis://user:pass@[::1]:6379/0",
    "FAIRLINE_POSTGRES_DSN": "postgresql://user:pass@one:5432,two:5433/sales",
    "FAIRLINE_KAFKA": "one:9092,two:9092",
    "FAIRLINE_GATEWAY_URL": "https://sale.example",
    "FAIRLINE_NOTIFIER_URL": "wss://sale.example:8443/ws",
    "FAIRLINE_ORDER_SERVICE_URL": "http://10.0.0.1:8082",
    "FAIRLINE_TOKEN_KEYS": "k:" + "0123456789abcdef" * 2,
    "FAIRLINE_HOST": "0.0.0.0",
    "FAIRLINE_PORT": "8080",
    "FAIRLINE_INTERNAL_HOST": "::1",
    "FAIRLINE_NOTIFIER_ORIGINS": "https://shop.example, http://localhost:8080",
}
OWNERS: dict[str, type[BaseSettings]] = {
    "FAIRLINE_REDIS_URL": RedisSettings,
    "FAIRLINE_POSTGRES_DSN": PostgresSettings,
    "FAIRLINE_KAFKA": KafkaSettings,
    "FAIRLINE_GATEWAY_URL": AddressSettings,
    "FAIRLINE_NOTIFIER_URL": AddressSettings,
    "FAIRLINE_ORDER_SERVICE_URL": RecordsSettings,
    "FAIRLINE_HOST": ListenSettings,
    "FAIRLINE_INTERNAL_HOST": ProcessSettings,
    "FAIRLINE_NOTIFIER_ORIGINS": NotifierSettings,
}


@pytest.mark.parametrize("name", OWNERS)
def test_addresses_are_taken(name: str) -> None:
    load(OWNERS[name], GOOD)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("FAIRLINE_REDIS_URL", "redis://127.0.0.1:abc/0"),
        ("FAIRLINE_REDIS_URL", "http://127.0.0.1:6379"),
        ("FAIRLINE_REDIS_URL", "redis://"),
        ("FAIRLINE_REDIS_URL", "unix://"),
        ("FAIRLINE_REDIS_URL", "redis://host:0"),
        ("FAIRLINE_POSTGRES_DSN", "postgresql://user:pass@host:abc/sales"),
        ("FAIRLINE_POSTGRES_DSN", "mysql://host/sales"),
        ("FAIRLINE_KAFKA", "host"),
        ("FAIRLINE_KAFKA", "host:99999"),
        ("FAIRLINE_KAFKA", "host:9092,"),
        ("FAIRLINE_KAFKA", "a..b:9092"),
        ("FAIRLINE_GATEWAY_URL", "http://host:abc"),
        ("FAIRLINE_GATEWAY_URL", "http://ho st"),
        ("FAIRLINE_NOTIFIER_URL", "http://host:1"),
        ("FAIRLINE_ORDER_SERVICE_URL", "http://"),
        ("FAIRLINE_HOST", "not a host"),
        ("FAIRLINE_INTERNAL_HOST", ""),
        ("FAIRLINE_NOTIFIER_ORIGINS", "nonsense here"),
        ("FAIRLINE_NOTIFIER_ORIGINS", "*"),
    ],
)
def test_what_is_no_address_is_named(name: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name}"):
        load(OWNERS[name], GOOD | {name: wrong})


@pytest.mark.parametrize("name", ["FAIRLINE_REDIS_URL", "FAIRLINE_GATEWAY_URL", "FAIRLINE_POSTGRES_DSN"])
def test_a_wrong_address_is_shown_without_its_password(name: str) -> None:
    with pytest.raises(SettingsError) as error:
        load(OWNERS[name], GOOD | {name: "gopher://me:hunter2@host:99999999/x"})
    assert name in str(error.value)
    assert "hunter2" not in str(error.value)
