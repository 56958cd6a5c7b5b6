"""The breaker, for three rounds of a fixed seed; ``make chaos`` plays as many as one likes."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.stack import eventually

SEED = 216  # eleven of the thirteen kinds of fault; Redis keeps its data
ROUNDS = 3


async def breaker(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.chaos", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )


async def said(process: asyncio.subprocess.Process) -> list[str]:
    printed, _ = await process.communicate()
    return printed.decode().splitlines()


@pytest.mark.timeout(600)
async def test_nothing_is_violated_whatever_is_broken(tmp_path: Path) -> None:
    process = await breaker("--rounds", str(ROUNDS), "--seed", str(SEED), "--out", str(tmp_path))
    lines = await said(process)
    assert process.returncode == 0, "\n".join(lines)
    assert lines[0].startswith(f"seed {SEED}, faults kill, ")
    rounds = [line for line in lines if line.startswith("round ")]
    assert len(rounds) == ROUNDS
    assert all(" confirmed, " in line and line.rpartition(": ")[2].startswith("ok") for line in rounds)
    assert lines[-1].startswith(f"{ROUNDS} rounds from seed {SEED}, ")
    assert lines[-1].endswith(": 0 violations")
    assert names_in(tmp_path) == []


async def test_ctrl_c_ends_a_round_and_leaves_no_process(tmp_path: Path) -> None:
    process = await breaker("--rounds", "1", "--faults", "operator", "--out", str(tmp_path))

    def playing() -> bool:
        return any(tmp_path.glob("chaos-*/history.jsonl"))

    await eventually(playing, within_s=120)
    pids = children(process.pid)
    assert len(pids) >= 11
    os.kill(process.pid, signal.SIGINT)
    lines = await said(process)
    assert process.returncode == 130
    assert lines[-1].startswith("0 rounds from seed ")
    assert not {str(pid) for pid in pids} & set(names_in(Path("/proc")))


async def test_a_fault_that_there_is_not_is_named() -> None:
    process = await breaker("--faults", "kill,sabotage")
    lines = await said(process)
    assert process.returncode == 2
    assert lines[0].startswith("there is no fault sabotage: the names are kill, ")


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]
