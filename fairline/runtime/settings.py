"""Settings: one frozen model a service, read from the environment once, checked before anything starts.

Shared settings are ``FAIRLINE_NAME``, a service's own are ``FAIRLINE_SERVICE_NAME``. For every secret
``FAIRLINE_NAME_FILE`` may name a file instead. A ``FAIRLINE_`` variable that nobody knows stops the start: it is a
typing error, and what it was to change would silently not be changed.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fairline.runtime.addresses import Brokers, Host, HttpUrl, RedisUrl, WsUrl, check_url, hidden
from fairline.tokens import TokenKeys

PREFIX: Final = "FAIRLINE_"
_SECTIONS: Final = ("GATEWAY", "ADMISSION", "ORDER_SERVICE", "NOTIFIER")
# Read by the local stack, the command line and the tests, which may share an environment with a service.
ELSEWHERE: Final = (
    "FAIRLINE_PROVIDER",
    "FAIRLINE_REDIS_PROVIDER",
    "FAIRLINE_POSTGRES_PROVIDER",
    "FAIRLINE_KAFKA_PROVIDER",
    "FAIRLINE_JAVA_PROVIDER",
    "FAIRLINE_KAFKA_JARS",
    "FAIRLINE_KAFKA_ADVERTISED",
    "FAIRLINE_DATA",
    "FAIRLINE_TEST_CHROMIUM",
    "FAIRLINE_TEST_WITHOUT_BROWSER",
)

Port = Annotated[int, Field(ge=0, le=65535)]


class SettingsError(Exception):
    """A setting is missing, wrong or unknown; the message names each with its value and what is allowed."""


def section(name: str) -> SettingsConfigDict:
    """The model configuration of one service: its own fields are read from ``FAIRLINE_<name>_<FIELD>``."""
    return SettingsConfigDict(
        alias_generator=lambda field: f"{PREFIX}{name}_{field.upper()}",
        case_sensitive=True,
        frozen=True,
        extra="ignore",
        env_prefix="",
    )


class ProcessSettings(BaseSettings):
    """What every process reads."""

    process: str = Field(
        "",
        alias="FAIRLINE_PROCESS",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",  # Redis takes no connection whose name has a space
        description="name of this copy, in logs and connections",
    )
    log_level: str = Field(
        "info",
        alias="FAIRLINE_LOG_LEVEL",
        pattern="^(debug|info|warning|error)$",
        description="least level logged",
    )
    log_format: str = Field(
        "json",
        alias="FAIRLINE_LOG_FORMAT",
        pattern="^(json|console)$",
        description="one JSON object a line, or for people",
    )
    clock_shift: str = Field(
        "",
        alias="FAIRLINE_CLOCK_SHIFT",
        description="for tests only: a file with the milliseconds by which the wall clock of this process is wrong",
    )
    drain_s: float = Field(5.0, alias="FAIRLINE_DRAIN_S", ge=0, le=300, description="time to finish work when stopping")
    internal_host: Host = Field(
        "127.0.0.1", alias="FAIRLINE_INTERNAL_HOST", description="listens for health and metrics; the gateway does not"
    )
    internal_port: Port = Field(
        0, alias="FAIRLINE_INTERNAL_PORT", description="port of health and metrics; 0: any free one"
    )


class RedisSettings(BaseSettings):
    """Of the processes that talk to Redis."""

    redis_url: RedisUrl = Field(
        alias="FAIRLINE_REDIS_URL", description="redis://[user:password@]host:port/number; rediss:// for TLS"
    )
    redis_timeout_s: float = Field(
        2.0, alias="FAIRLINE_REDIS_TIMEOUT_S", gt=0, le=60, description="wait for a connection, and for an answer"
    )


class KafkaSettings(BaseSettings):
    """Of the processes that talk to Kafka."""

    kafka: Brokers = Field(alias="FAIRLINE_KAFKA", description="brokers: host:port[,...]")
    kafka_session_s: float = Field(
        6.0,
        alias="FAIRLINE_KAFKA_SESSION_S",
        ge=1,
        le=300,
        description="how long a killed reader keeps its partitions; brokers take no less than 6 by default",
    )


class PostgresSettings(BaseSettings):
    """Of the processes that talk to Postgres."""

    postgres_dsn: SecretStr = Field(
        alias="FAIRLINE_POSTGRES_DSN", description="postgresql://user:password@host:port/database"
    )

    @field_validator("postgres_dsn")
    @classmethod
    def _names_postgres(cls, dsn: SecretStr) -> SecretStr:
        check_url(dsn.get_secret_value(), "postgresql", "postgres")
        return dsn


class TokenSettings(BaseSettings):
    """Of the processes that sign or check tickets' tokens."""

    token_keys: SecretStr = Field(
        alias="FAIRLINE_TOKEN_KEYS", description="kid:secret[,kid:secret...]; the first signs, all are accepted"
    )

    @field_validator("token_keys")
    @classmethod
    def _can_sign(cls, keys: SecretStr) -> SecretStr:
        TokenKeys.parse(keys.get_secret_value())  # says what is wrong, never the secret
        return keys


class ListenSettings(BaseSettings):
    """Of the processes that buyers reach."""

    host: Host = Field("127.0.0.1", alias="FAIRLINE_HOST", description="address to listen on for buyers")
    port: Port = Field(alias="FAIRLINE_PORT", description="port to listen on for buyers")


class AddressSettings(BaseSettings):
    """What buyers are told."""

    gateway_url: HttpUrl = Field(alias="FAIRLINE_GATEWAY_URL", description="where buyers reach the gateway")
    notifier_url: WsUrl = Field(alias="FAIRLINE_NOTIFIER_URL", description="where buyers reach the notifier")


class RecordsSettings(BaseSettings):
    """Of the processes that ask the order service what Postgres knows."""

    order_service_url: HttpUrl = Field(
        alias="FAIRLINE_ORDER_SERVICE_URL", description="internal address of the order service"
    )


class OperatorSettings(BaseSettings):
    """Of the gateway: the first key, with which the others are made."""

    operator_key: SecretStr | None = Field(
        None, alias="FAIRLINE_OPERATOR_KEY", description="an admin's key, with which others are made"
    )


_SHARED: Final = (
    ProcessSettings,
    RedisSettings,
    KafkaSettings,
    PostgresSettings,
    TokenSettings,
    ListenSettings,
    AddressSettings,
    RecordsSettings,
    OperatorSettings,
)

S = TypeVar("S", bound=BaseSettings)


def load(cls: type[S], env: Mapping[str, str] | None = None) -> S:
    """The settings of a service; raises ``SettingsError`` with one line for each thing that is wrong."""
    env = os.environ if env is None else env
    own = {field.alias or name: field for name, field in cls.model_fields.items()}
    faults = [f"{name}: there is no such setting" for name in _unknown(cls, env)]
    values: dict[str, Any] = {name: env[name] for name in own if name in env}
    for name in own:
        path = env.get(f"{name}_FILE")
        if path is None:
            continue
        if name in env:
            faults.append(f"{name}: is given twice, by {name}_FILE too; keep one")
            continue
        try:
            values[name] = Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            faults.append(f"{name}_FILE={path!r}: cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            faults.append(f"{name}_FILE={path!r}: cannot be read: it is not text in UTF-8")
    try:
        settings = cls.model_validate(values)
    except ValidationError as error:
        faults.extend(_line(fault, own) for fault in error.errors())
    if faults:
        raise SettingsError("\n".join(faults))
    return settings


def _unknown(cls: type[BaseSettings], env: Mapping[str, str]) -> list[str]:
    shared = {field.alias for base in _SHARED for field in base.model_fields.values()}
    known = shared | {field.alias for field in cls.model_fields.values()} | set(ELSEWHERE)
    mine = str(getattr(cls, "SECTION", ""))
    others = tuple(f"{PREFIX}{name}_" for name in _SECTIONS if name != mine)
    return sorted(
        name
        for name in env
        if name.startswith(PREFIX)
        and name not in known
        and name.removesuffix("_FILE") not in known
        and not name.startswith(others)
    )


def _line(fault: Any, own: Mapping[str, Any]) -> str:
    if not fault["loc"]:  # of several settings together; the message names them
        return str(fault["msg"]).removeprefix("Value error, ")
    name = str(fault["loc"][0])
    if fault["type"] == "missing":
        return f"{name}: is required; set it in the environment"
    field = own.get(name)
    secret = field is not None and "Secret" in str(field.annotation)
    shown = "" if secret else f"={hidden(str(fault['input']))!r}"
    return f"{name}{shown}: {fault['msg']}"
