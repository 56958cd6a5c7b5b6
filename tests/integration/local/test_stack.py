"""``fairline up`` from outside: real servers, and fake services where only the process matters."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairline.local.folder import holder
from tests.support.stack import FullStack, cannot_be_had, eventually

FAKE = (sys.executable, "-m", "tests.support.fake_up")
ENVIRONMENT = Path(sys.prefix).resolve()
# Where only services and Redis matter, the other two are named as if they ran elsewhere.
ONLY_REDIS = {"FAIRLINE_KAFKA": "127.0.0.1:1", "FAIRLINE_POSTGRES_DSN": "postgresql://fairline@127.0.0.1:1/x"}
ALL = ["redis", "postgres", "kafka", "gateway", "admission", "order_service", "notifier"]


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[FullStack]:
    async with FullStack(command=FAKE) as stack:
        yield stack


def answers(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - our own http address
        text: str = answer.read().decode()
    return text


def gone(pid: int) -> bool:
    """Ended; a zombie that nobody fetches counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def program_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def family(pid: int) -> set[int]:
    """The process and everything below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    found, todo = {pid}, [pid]
    while todo:
        todo += children.get(todo.pop(), [])
        found |= set(todo)
    return found


async def test_stack_json_says_what_runs_and_is_its_owners_alone(stack: FullStack) -> None:
    info = stack.info
    assert [process["name"] for process in info["processes"]] == ALL
    assert not any(gone(process["pid"]) for process in info["processes"])
    assert info["console_url"] == f"{info['gateway_url']}/console"
    assert info["operator_key"].startswith("fl_admin_")
    assert info["notifier_url"].startswith("ws://127.0.0.1:")
    assert set(info["internal_urls"]) == {"gateway", "admission", "order_service", "notifier"}
    assert (stack.folder / "stack.json").stat().st_mode & 0o777 == 0o600


async def test_each_service_answers_at_its_address(stack: FullStack) -> None:
    for name, url in stack.info["internal_urls"].items():
        assert await asyncio.to_thread(answers, f"{url}/readyz") == name


async def test_it_prints_the_addresses_and_no_secret(stack: FullStack) -> None:
    said, info = stack.said(), stack.info
    assert info["gateway_url"] in said
    assert info["console_url"] in said
    assert info["operator_key"] not in said
    assert info["postgres_dsn"].split("@")[0] not in said


@pytest.mark.parametrize("name", ["gateway", "order_service"])
async def test_a_killed_child_comes_back_on_the_same_port(stack: FullStack, name: str) -> None:
    before, urls = stack.pid(name), stack.info["internal_urls"]
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: stack.pid(name) != before)
    assert not gone(stack.pid(name))
    assert stack.info["internal_urls"] == urls
    await eventually(lambda: answers(f"{urls[name]}/readyz"))
    assert f"{name} died (SIGKILL); starting it again" in stack.said()


async def test_one_is_held_down_and_brought_back(stack: FullStack) -> None:
    before = stack.pid("notifier")
    code, said = await stack.cli("stack", "stop", "notifier")
    assert (code, said) == (0, "notifier is held down: bring it back with fairline stack start notifier\n")
    assert gone(before)
    assert "notifier" not in [process["name"] for process in stack.info["processes"]]
    assert "held down" in (await stack.cli("status"))[1]
    assert await stack.cli("stack", "start", "notifier") == (0, "notifier is up\n")
    assert stack.pid("notifier") != before
    assert answers(f"{stack.info['internal_urls']['notifier']}/readyz") == "notifier"


async def test_a_name_that_is_not_there_is_refused_with_the_names(stack: FullStack) -> None:
    code, said = await stack.cli("stack", "stop", "gatway")
    assert code == 1
    assert said == f"There is no gatway in this stack: the names are {', '.join(ALL)}.\n"


async def test_a_second_stack_on_the_folder_is_refused(stack: FullStack) -> None:
    code, said = await stack.cli("up")
    assert code == 1
    assert said.startswith(f"A stack runs in {stack.folder} already: fairline status shows it")
    assert len(said.splitlines()) == 1


async def test_embedded_ones_suffice_below_a_closed_folder_and_nothing_outlives_a_killed_stack(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("unshare", "true"):  # all there is on PATH: no java, no postgres, no redis-server
        (tools / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    closed = tmp_path / "clösed, with a comma"
    closed.mkdir(mode=0o700)
    environ = {"FAIRLINE_PROVIDER": "embedded", "PATH": str(tools)}
    stack = FullStack(command=FAKE, environ=environ, folder=closed / "data")
    await stack.start()
    try:
        assert [process["name"] for process in stack.info["processes"]] == ALL
        for name in ("redis", "postgres", "kafka"):
            assert program_of(stack.pid(name)).is_relative_to(ENVIRONMENT)
        assert closed.stat().st_mode & 0o777 == 0o700
        everyone = family(stack.process.pid)
        assert len(everyone) > len(ALL) + 1  # Postgres has processes of its own
        stack.process.kill()
        await eventually(lambda: all(gone(pid) for pid in everyone - {stack.process.pid}))
    finally:
        await stack.stop()


async def test_sigterm_stops_all_within_ten_seconds_however_stubborn_and_the_next_start_is_the_same(
    tmp_path: Path,
) -> None:
    environ = ONLY_REDIS | {"FAKE_STUBBORN": "1"}
    stack = FullStack(command=FAKE, environ=environ, folder=tmp_path / "data")
    await stack.start()
    info, everyone = stack.info, family(stack.process.pid)
    began = time.monotonic()
    await stack.stop()
    assert time.monotonic() - began < 10
    assert all(gone(pid) for pid in everyone)
    assert "Redis was stopped cleanly" in stack.said()
    assert not (tmp_path / "data" / "stack.json").exists()
    again = FullStack(command=FAKE, environ=ONLY_REDIS, folder=tmp_path / "data")
    async with again:
        assert {**again.info, "processes": []} == {**info, "processes": []}


async def test_detached_it_goes_on_until_down_which_may_be_said_twice(tmp_path: Path) -> None:
    stack = FullStack(command=FAKE, environ=ONLY_REDIS, folder=tmp_path / "data")
    process = await asyncio.create_subprocess_exec(
        *(*FAKE, "--data", str(tmp_path / "data"), "--detach"),
        env=os.environ | ONLY_REDIS,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    assert said.decode().startswith("Fairline is up after ")
    pid = holder(tmp_path / "data")
    assert pid is not None
    everyone = family(pid)
    assert (await stack.cli("status"))[0] == 0
    assert await stack.cli("down") == (0, f"Stopped the stack in {tmp_path / 'data'}.\n")
    await eventually(lambda: all(gone(pid) for pid in everyone))
    assert await stack.cli("down") == (0, f"No stack runs in {tmp_path / 'data'}.\n")
    assert await stack.cli("down", "--quiet") == (0, "")
    assert (await stack.cli("status"))[0] == 1


async def test_a_service_that_fails_fails_the_start_and_leaves_nothing(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*FAKE, "--data", str(tmp_path / "data"), "--detach"),
        env=os.environ | ONLY_REDIS | {"FAKE_FAILS": "admission"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert said.decode().startswith("admission ended (exit code 1) before it was ready: look into ")
    assert "it was told to fail" in said.decode()
    assert holder(tmp_path / "data") is None


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"FAIRLINE_PROVIDER": "path", "PATH": "/nowhere"}, "No Redis was found: install redis-server 7.0"),
        ({"FAIRLINE_JAVA_PROVIDER": "path", "PATH": "/nowhere"}, "No Java was found, which Kafka needs: install Java"),
        ({"FAIRLINE_KAFKA_JARS": "/nowhere"}, "are not in /nowhere: run make setup."),
        ({"FAIRLINE_PROVIDER": "docker"}, "FAIRLINE_PROVIDER is 'docker': allowed are auto, path, embedded."),
        ({"FAIRLINE_GATEWAY_PORT": "TAKEN"}, "for gateway is taken: stop what listens there, or choose another"),
        ({"FAIRLINE_GATEWAY_PORT": "http"}, "FAIRLINE_GATEWAY_PORT is 'http': a port is a whole number"),
    ],
)
async def test_what_is_missing_or_wrong_is_said_in_one_sentence(
    tmp_path: Path, environ: dict[str, str], sentence: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = {name: str(other.getsockname()[1]) for name, value in environ.items() if value == "TAKEN"}
        stack = FullStack(environ=environ | taken, folder=tmp_path / "data")
        code, said = await stack.cli("up")
    assert code == 1
    assert sentence in said
    assert "Traceback" not in said
    assert holder(tmp_path / "data") is None


async def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    code, said = await FullStack(folder=tmp_path).cli("up")
    assert code == 1
    assert said == (f"{tmp_path} has files in it that are not Fairline's: name an empty or new folder with --data.\n")


async def test_a_full_disk_is_said_in_one_sentence(tmp_path: Path) -> None:
    """On a real one of 1 MB, where the kernel lets us make it."""
    up = f"{sys.executable} -c 'from fairline.cli import main; main()' up"
    process = await asyncio.create_subprocess_exec(
        *("unshare", "-rm", "sh", "-c", f"mount -t tmpfs -o size=1m none {tmp_path} || exit 77; {up}"),
        env=os.environ | {"FAIRLINE_DATA": str(tmp_path / "data")},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    if process.returncode == 77 or b"unshare" in said:
        cannot_be_had("no file system may be mounted here")
    assert process.returncode == 1
    assert said.decode().startswith(f"The disk that holds {tmp_path / 'data'} is full: free some space there")


async def test_whoever_read_its_lines_may_go_away_and_it_still_restarts_and_stops_cleanly(tmp_path: Path) -> None:
    stack = FullStack(folder=tmp_path / "data")
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(*FAKE, "--data", str(tmp_path / "data")),
        env=os.environ | ONLY_REDIS | {"PYTHONUNBUFFERED": "1"},
        stdout=writing,
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as said:
            lines = iter(said.readline, "")
            await asyncio.to_thread(lambda: [next(line for line in lines if "logs" in line), next(lines)])
        before = stack.pid("gateway")
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: stack.pid("gateway") != before)
    finally:
        process.terminate()
        await process.wait()
    assert "Redis was stopped cleanly" in (tmp_path / "data" / "logs" / "stack.log").read_text()


async def test_under_nohup_it_outlives_its_terminal(tmp_path: Path) -> None:
    nohup = ("nohup", *FAKE)
    async with FullStack(command=nohup, environ=ONLY_REDIS, folder=tmp_path / "data") as stack:
        before = stack.pid("gateway")
        stack.process.send_signal(signal.SIGHUP)
        os.kill(before, signal.SIGKILL)
        await eventually(lambda: stack.pid("gateway") != before)
        assert holder(tmp_path / "data") == stack.process.pid
