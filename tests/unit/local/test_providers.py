from collections.abc import Callable
from pathlib import Path

import pytest

from fairline.local import providers
from fairline.local.errors import MissingError, StackError

Make = Callable[[str, str], Path]


@pytest.fixture
def says(tmp_path: Path) -> Make:
    """Put a program on a PATH of its own that prints this."""

    def make(name: str, text: str) -> Path:
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{text}'\n")
        program.chmod(0o755)
        return program

    return make


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"PATH": str(tmp_path), "FAIRLINE_PROVIDER": "path"}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("redis-server", "Redis server v=7.0.15 sha=00000000:0", "redis 7.0.15"),
        ("redis-server", "Valkey server v=8.0.1 sha=00000000:0", "valkey 8.0.1"),
        ("valkey-server", "Valkey server v=7.2.0 sha=00000000:0", "valkey 7.2.0"),
    ],
)
def test_a_redis_that_is_new_enough_is_taken_from_path(
    says: Make, environ: dict[str, str], name: str, text: str, found: str
) -> None:
    program = says(name, text)
    assert str(providers.redis(environ)) == found
    assert providers.redis(environ).path == program


def test_a_program_of_a_relative_path_is_found_from_anywhere(
    says: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = says("redis-server", "Redis server v=7.0.15 sha=00000000:0")
    monkeypatch.chdir(tmp_path.parent)
    assert providers.redis({"PATH": tmp_path.name, "FAIRLINE_PROVIDER": "path"}).path == program


@pytest.mark.parametrize("text", ["Redis server v=6.2.7 sha=0", "Valkey server v=7.1.0", "nonsense", ""])
def test_a_redis_that_is_too_old_is_not_taken(says: Make, environ: dict[str, str], text: str) -> None:
    says("redis-server", text)
    with pytest.raises(MissingError, match=r"No Redis was found: install"):
        providers.redis(environ)
    assert providers.redis(environ | {"FAIRLINE_PROVIDER": "auto"}).flavour == "valkey"


def test_postgres_is_followed_to_the_real_file_where_initdb_is(
    says: Make, environ: dict[str, str], tmp_path: Path
) -> None:
    real = tmp_path / "lib" / "bin"
    real.mkdir(parents=True)
    says("postgres", "postgres (PostgreSQL) 15.18 (Debian)").rename(real / "postgres")
    (tmp_path / "postgres").symlink_to(real / "postgres")
    with pytest.raises(MissingError, match="No Postgres was found"):
        providers.postgres(environ)
    says("initdb", "").rename(real / "initdb")
    assert providers.postgres(environ).path == real / "postgres"
    assert providers.postgres(environ).version == (15,)


@pytest.mark.parametrize(("text", "taken"), [('java version "17.0.1"', True), ('java version "11.0.2"', False)])
def test_java_is_taken_from_17_on(says: Make, environ: dict[str, str], text: str, *, taken: bool) -> None:
    says("java", text)
    if taken:
        assert providers.java(environ).version == (17,)
    else:
        with pytest.raises(MissingError, match=r"No Java was found, which Kafka needs: install Java 17"):
            providers.java(environ)


def test_a_kafka_on_path_is_found_by_its_jar(says: Make, environ: dict[str, str], tmp_path: Path) -> None:
    home = tmp_path / "kafka"
    for folder in ("bin", "libs"):
        (home / folder).mkdir(parents=True)
    says("kafka-server-start.sh", "").rename(home / "bin" / "kafka-server-start.sh")
    environ["PATH"] = str(home / "bin")
    assert providers.kafka_on_path(environ) is None
    (home / "libs" / "kafka_2.13-3.9.0.jar").touch()
    assert providers.kafka_on_path(environ) is None
    (home / "libs" / "kafka_2.13-4.1.0.jar").touch()
    found = providers.kafka_on_path(environ)
    assert found is not None
    assert found.version == (4, 1, 0)


def test_one_server_can_be_forced_on_its_own() -> None:
    environ = {"FAIRLINE_PROVIDER": "path", "FAIRLINE_REDIS_PROVIDER": "embedded"}
    assert providers.way("redis", environ) == "embedded"
    assert providers.way("postgres", environ) == "path"
    assert providers.way("postgres", {}) == "auto"


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(StackError, match="FAIRLINE_PROVIDER is 'docker': allowed are auto, path, embedded"):
        providers.way("redis", {"FAIRLINE_PROVIDER": "docker"})
