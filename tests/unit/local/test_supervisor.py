import asyncio
import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from fairline.local import child
from fairline.local.errors import StackError
from fairline.local.program import Program
from fairline.local.supervisor import Supervisor, pause_s
from tests.support.stack import eventually


def program(name: str, code: str, folder: Path) -> Program:
    return Program(name=name, argv=[sys.executable, "-S", "-c", code], env={}, cwd=folder, stop_within_s=0.5)


def test_the_pause_doubles_up_to_ten_seconds() -> None:
    pauses = [pause_s(deaths) for deaths in range(1, 9)]
    assert pauses[0] < 1
    assert all(later in {earlier * 2, 10.0} for earlier, later in pairwise(pauses))
    assert pauses[-1] == 10.0


async def test_a_child_that_dies_again_and_again_is_tried_less_and_less_often(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(tmp_path, say=said.append)
    await supervisor.start(program("brief", "pass", tmp_path))
    await eventually(lambda: [line for line in said if "3 times in a row" in line])
    assert "in 0.2 s" in said[0]
    assert "in 0.4 s" in said[1]
    await supervisor.stop(["brief"])
    assert supervisor.state("brief").startswith("ended")


async def test_a_child_that_ignores_sigterm_is_killed_with_what_it_started(tmp_path: Path) -> None:
    stubborn = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(os.fork(), flush=True); time.sleep(60)"
    )
    supervisor = Supervisor(tmp_path, say=print)
    await supervisor.start(program("stubborn", stubborn, tmp_path))

    def grandchild() -> int:
        numbers = [int(line) for line in (tmp_path / "stubborn.log").read_text().split("\n") if line.isdecimal()]
        return max(numbers)

    pid = await eventually(grandchild)
    await supervisor.stop(["stubborn"])
    assert supervisor.exit_code("stubborn") == -signal.SIGKILL
    await eventually(lambda: not alive(pid))


async def test_the_log_of_a_child_that_says_the_same_for_ever_stays_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_LOG_BYTES", 50_000)
    monkeypatch.setattr(child, "_LOG_LOOKED_AT_EVERY_S", 0.01)
    talks = "import time\nfor n in range(10**9): print(n, 'x' * 1000, flush=True); time.sleep(0.0005)"
    supervisor = Supervisor(tmp_path, say=print)
    await supervisor.start(program("talker", talks, tmp_path))
    first, log = supervisor.pid("talker"), tmp_path / "talker.log"

    def last() -> int:
        return int(log.read_text().splitlines()[-2].split(" ")[0])

    try:
        await eventually(lambda: last() > 1000 and log.stat().st_size < 500_000)  # a megabyte later
        assert b"\0" not in log.read_bytes()  # it goes on at the new end, and leaves no hole
        assert (tmp_path / "talker.log.1").stat().st_size > 50_000
        assert supervisor.pid("talker") == first
    finally:
        await supervisor.stop(["talker"])


async def test_one_that_ends_before_it_is_ready_is_told_with_its_last_words(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    bad = program("bad", "import sys; sys.exit('no such luck')", tmp_path)
    supervisor = Supervisor(tmp_path, say=print)
    with pytest.raises(StackError, match=r"(?s)bad ended \(exit code 1\) before it was ready.*no such luck"):
        await supervisor.start(Program(**{**vars(bad), "ready": never}))


async def test_a_full_disk_in_its_last_words_becomes_the_sentence_about_disks(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    bad = program("bad", "import sys; sys.exit('write: No space left on device')", tmp_path)
    with pytest.raises(StackError, match=r"is full: free some space"):
        await Supervisor(tmp_path, say=print).start(Program(**{**vars(bad), "ready": never}))


async def test_a_program_that_is_not_there_says_so(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    missing = Program(name="missing", argv=["/no/such/program"], env={}, cwd=tmp_path, ready=never)
    with pytest.raises(StackError, match=r"/no/such/program: No such file"):
        await Supervisor(tmp_path, say=print).start(missing)


async def test_holding_down_and_bringing_back_twice_is_fine(tmp_path: Path) -> None:
    changes: list[None] = []
    supervisor = Supervisor(tmp_path, say=print, changed=lambda: changes.append(None))
    await supervisor.start(program("sleeper", "import time; time.sleep(60)", tmp_path))
    first = supervisor.pid("sleeper")
    for _ in range(2):
        await supervisor.hold("sleeper")
    assert supervisor.pid("sleeper") is None
    assert supervisor.state("sleeper") == "held down"
    for _ in range(2):
        await supervisor.release("sleeper")
    assert supervisor.pid("sleeper") not in {None, first}
    assert len(changes) >= 3
    with pytest.raises(StackError, match="There is no sleepr in this stack: the names are sleeper"):
        await supervisor.hold("sleepr")
    for _ in range(2):
        await supervisor.stop(["sleeper"])


@pytest.mark.parametrize("turns", range(12))
async def test_one_that_died_in_the_turn_in_which_it_is_held_stays_down(turns: int, tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, say=print)
    await supervisor.start(program("sleeper", "import time; time.sleep(60)", tmp_path))
    pid = supervisor.pid("sleeper")
    assert pid is not None
    await asyncio.sleep(0.1)  # its keeper waits
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)  # noqa: ASYNC251 - the loop must not see the death yet
    for _ in range(turns):
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(30):
            await supervisor.hold("sleeper")
        assert supervisor.state("sleeper") == "held down"
        assert supervisor.exit_code("sleeper") == -signal.SIGKILL  # not a later one, that was started meanwhile
    finally:
        supervisor.kill()


async def test_forty_starts_and_stops_at_once_leave_no_process(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, say=print)
    names = [f"one-{number}" for number in range(40)]
    starts = [
        asyncio.create_task(supervisor.start(program(name, "import time; time.sleep(60)", tmp_path))) for name in names
    ]
    await asyncio.wait(starts, return_when=asyncio.FIRST_COMPLETED)
    for start in starts:
        start.cancel()
    await asyncio.gather(*starts, return_exceptions=True)
    await supervisor.stop(names)
    assert all(supervisor.exit_code(name) is not None for name in supervisor.names if supervisor.pid(name))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
