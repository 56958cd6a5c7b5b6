"""The three servers as the stack sets them up; each fact is asked of the running server."""

import contextlib
import functools
import itertools
import os
import resource
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis.asyncio
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from fairline.local import drop_root, jars, ports, redis_server
from fairline.local.errors import StackError
from fairline.local.folder import DataFolder
from fairline.local.servers import Servers
from fairline.local.supervisor import Supervisor
from fairline.store import fence
from tests.support.stack import Running, eventually, servers


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Running]:
    async with servers("redis", "postgres", "kafka") as running:
        yield running


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis.asyncio.Redis.from_url(url, protocol=2, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()


async def test_redis_refuses_to_forget_and_keeps_its_replid(running: Running) -> None:
    async with connected(running.redis_url) as client:
        settings = await client.config_get("appendonly", "appendfsync", "maxmemory-policy", "repl-backlog-ttl", "bind")
    assert settings == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "repl-backlog-ttl": "0",
        "bind": "127.0.0.1",
    }


async def test_postgres_wants_its_password_and_keeps_what_it_acknowledged(running: Running) -> None:
    connection = await asyncpg.connect(running.postgres_dsn)
    try:
        assert await connection.fetchval("SHOW fsync") == "on"
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
        assert await connection.fetchval("SHOW unix_socket_directories") == ""
    finally:
        await connection.close()
    user, _, rest = running.postgres_dsn.removeprefix("postgresql://").partition(":")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://{user}:guess@{rest.partition('@')[2]}")


async def test_kafka_takes_topics_and_makes_none_by_itself(running: Running) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=running.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic("orders-of-this-test", 4, 1)])

        async def partitions() -> list[int]:
            found = await admin.describe_topics(["orders-of-this-test", "never-made"])
            return [len(topic["partitions"]) for topic in found]

        async def both_are_known() -> bool:  # a broker acknowledges a topic a little before it tells of it
            assert await partitions() == [4, 0]
            return True

        await eventually(both_are_known)
    finally:
        await admin.close()


async def test_everything_is_written_below_the_folder_for_its_owner_alone(running: Running) -> None:
    assert {"redis", "postgres", "kafka", "logs"} <= {path.name for path in running.folder.iterdir()}
    assert running.folder.stat().st_mode & 0o777 == 0o700
    for process in ("redis", "postgres", "kafka"):
        files = _open_files(running.pid(process))
        outside = {file for file in files if not file.startswith((str(running.folder), "/dev", "/proc"))}
        assert not {file for file in outside if os.access(file, os.W_OK) and _opened_for_writing(file, files)}


@pytest.mark.parametrize("name", ["redis", "postgres", "kafka"])
async def test_a_killed_server_comes_back_on_its_port_with_its_data(running: Running, name: str) -> None:
    async with connected(running.redis_url) as client:
        await client.set("survivor", "1")
    before = running.pid(name)
    os.kill(before, 9)
    await eventually(lambda: running.pid(name) != before)
    await running.until_ready(name)
    if name == "redis":
        async with connected(running.redis_url) as client:
            assert await client.get("survivor") == "1"


@pytest.fixture
def reachable_by_all() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fairline-outside-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name) / "outside"


@pytest.fixture(params=[0o022, 0o077], ids=["umask 022", "umask 077"])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become another user")
@pytest.mark.usefixtures("umask")
async def test_without_namespaces_postgres_runs_as_another_user_from_a_copy(
    reachable_by_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    footing = functools.partial(drop_root.footing, outside=reachable_by_all, namespaces=False)
    monkeypatch.setattr(drop_root, "footing", footing)
    monkeypatch.setattr(drop_root, "_is_open_to_all", lambda _: False)
    async with servers("postgres", environ={"FAIRLINE_PROVIDER": "embedded"}) as running:
        connection = await asyncpg.connect(running.postgres_dsn)
        await connection.close()
        user, program = _user_and_program(running.pid("postgres"))
        assert user != 0
        assert program.is_relative_to(reachable_by_all)


class Life:
    """One start and stop of a Redis in a folder that goes on."""

    def __init__(self, path: Path) -> None:
        self.said: list[str] = []
        self._folder = DataFolder(path)
        self.supervisor = Supervisor(path / "logs", say=self.said.append)

    async def __aenter__(self) -> str:
        self._folder.open()
        self._servers = Servers(self._folder, self.supervisor, os.environ, wanted=("redis",), say=self.said.append)
        names = self._servers.port_names
        self._ports = ports.choose(names, kept_in=self._folder.ports_file, forced={}, say=self.said.append)
        await self._servers.start(self._ports)
        return self._servers.addresses(self._ports).redis_url

    async def __aexit__(self, *_: object) -> None:
        self.clean = await self._servers.stop(self._ports)
        self._folder.close()


async def test_after_a_clean_stop_the_sales_get_the_new_fence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adopted: list[tuple[str, str]] = []

    async def adopt(redis_url: str, was: str) -> list[str]:
        adopted.append((was, await fence.identity(redis_url)))
        return ["spring-sale"]

    monkeypatch.setattr(fence, "adopt", adopt)
    first = Life(tmp_path / "data")
    async with first as url:
        was = await fence.identity(url)
    assert first.clean
    assert first.said == []
    second = Life(tmp_path / "data")
    async with second as again:
        assert again == url
        now = await fence.identity(url)
    assert adopted == [(was, now)]
    assert was != now
    assert second.said == ["Redis was stopped cleanly: the fence of spring-sale is set anew"]


async def test_after_any_other_end_the_sales_stay_recovering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adopted: list[Any] = []
    monkeypatch.setattr(fence, "adopt", lambda *_: adopted.append(_))
    first = Life(tmp_path / "data")
    async with first:
        pid = first.supervisor.pid("redis")
        assert pid is not None
        await first.supervisor.hold("redis")  # its keeper is gone, so that the next end is the last one
    assert not first.clean
    second = Life(tmp_path / "data")
    async with second:
        pass
    assert adopted == []
    assert second.said == [
        "Redis was not stopped cleanly: the sales of before are rebuilt, and read `recovering` until then"
    ]


async def test_d1_a_redis_that_does_not_start_costs_the_sales_no_clean_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adopted: list[str] = []

    async def adopt(_: str, was: str) -> list[str]:
        adopted.append(was)
        return []

    monkeypatch.setattr(fence, "adopt", adopt)
    async with Life(tmp_path / "data") as url:
        was = await fence.identity(url)
    failing = Life(tmp_path / "data")
    with monkeypatch.context() as broken:
        broken.setattr(redis_server, "_CONFIGURATION", redis_server._CONFIGURATION + "no-such-setting yes\n")
        with pytest.raises(StackError):
            await failing.__aenter__()
        await failing.__aexit__()
    assert adopted == []
    async with Life(tmp_path / "data"):
        assert adopted == [was]


@pytest.mark.parametrize("how", ["full disk", "no file"])
async def test_d1_a_redis_that_has_not_written_everything_down_leaves_no_mark(tmp_path: Path, how: str) -> None:
    life = Life(tmp_path / "data")
    async with life as url, connected(url) as client:
        if how == "full disk":
            pid = life.supervisor.pid("redis")
            assert pid is not None
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            with pytest.raises(redis.exceptions.ResponseError, match="MISCONF"):
                await _write_for_ever(client)
        else:
            await client.config_set("appendonly", "no")
    assert life.supervisor.exit_code("redis") == 0
    assert not life.clean


@pytest.mark.parametrize(
    ("file", "text", "wanted", "sentence"),
    [
        ("postgres/data/PG_VERSION", "99\n", "postgres", "was made by Postgres 99, which postgres .* cannot read"),
        ("kafka/data/meta.properties", "", "kafka", "was made by Kafka 99.0.0, which is newer"),
        ("redis/appendonlydir/x", "", "redis", "was made by valkey 99.0.0, which .* cannot read"),
    ],
)
async def test_data_of_a_newer_server_is_refused(
    tmp_path: Path, file: str, text: str, wanted: str, sentence: str
) -> None:
    data = DataFolder(tmp_path / "data")
    data.open()
    try:
        (data.path / file).parent.mkdir(parents=True)
        (data.path / file).write_text(text)
        data.remember({"kafka": "99.0.0", "redis": "valkey 99.0.0"})
        ours = Servers(data, Supervisor(data.logs, say=print), os.environ, wanted=(wanted,))
        with pytest.raises(StackError, match=sentence):
            await ours.start(dict.fromkeys(ours.port_names, 1))
    finally:
        data.close()


async def test_tampered_jars_are_refused(tmp_path: Path) -> None:
    tampered = tmp_path / "jars"
    shutil.copytree(jars.folder(os.environ), tampered)
    with (tampered / "kafka-clients-4.4.0.jar").open("ab") as jar:
        jar.write(b"!")
    with pytest.raises(StackError, match=r"kafka-clients-4\.4\.0\.jar differs"):
        async with servers("kafka", environ={"FAIRLINE_KAFKA_JARS": str(tampered), "FAIRLINE_PROVIDER": "embedded"}):
            pass


async def _write_for_ever(client: redis.asyncio.Redis) -> None:
    for n in itertools.count():
        await client.set(f"key-{n}", "x" * 1000)


def _user_and_program(pid: int) -> tuple[int, Path]:
    process = Path(f"/proc/{pid}")
    return process.stat().st_uid, (process / "exe").readlink()


def _open_files(pid: int) -> dict[str, int]:
    """Path -> open flags of everything the process has open."""
    found: dict[str, int] = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            info = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text()
            found[str(descriptor.readlink())] = int(info.split("flags:")[1].split()[0], 8)
    return found


def _opened_for_writing(file: str, files: dict[str, int]) -> bool:
    return bool(files[file] & (os.O_WRONLY | os.O_RDWR)) and file.startswith("/")
