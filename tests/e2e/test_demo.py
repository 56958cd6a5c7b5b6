"""The real demo at a small scale: a stack of its own, both sales, the verdict, and nothing left behind."""

import asyncio
import fcntl
import json
import os
import re
import struct
import sys
import termios
import urllib.request
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from loadtest import checker
from tests.support.stack import FullStack, eventually

COMMAND = (sys.executable, "-c", "from fairline.cli import main; main()", "demo")
SMALL = ("--buyers", "100", "--requests", "400", "--stock", "10", "--seed", "5")
PLAYED_WITHIN_S = 180
# Of each item, the row of one unit is gone as soon as it was written.
FORGETS = """
DROP TRIGGER order_units_stay_sold ON order_units;
CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $forget$ BEGIN
    DELETE FROM order_units WHERE ticket_id = NEW.ticket_id;
    RETURN NULL;
END $forget$;
CREATE TRIGGER forget AFTER INSERT ON order_units FOR EACH ROW WHEN (NEW.unit = 1) EXECUTE FUNCTION forget();
"""


async def played(*more: str, cwd: Path, **environ: str) -> tuple[int, str]:
    """Without a terminal: how it ended, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, *SMALL, *more),
        cwd=cwd,
        env=os.environ | environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PLAYED_WITHIN_S):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    return process.returncode or 0, printed.decode()


def result(folder: Path) -> Any:
    return json.loads((folder / "build" / "demo.json").read_text())


def running_in(folder: Path) -> list[str]:
    """Processes that have something of this folder on their command line."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if str(folder) in line:
            found.append(line)
    return found


@pytest.mark.timeout(300)
async def test_without_a_terminal_it_plays_judges_writes_and_stops_everything(tmp_path: Path) -> None:
    # With the servers of the packages alone, whatever this machine has on its PATH.
    code, printed = await played(cwd=tmp_path, FAIRLINE_PROVIDER="embedded")
    assert code == 0, printed
    told = result(tmp_path)
    assert told["verdict"] == "pass"
    assert [each["ok"] for each in told["invariants"]] == [True] * 8
    scenario = told["scenario"]
    assert (scenario["buyers"], scenario["requests"], scenario["seed"]) == (100, 400, 5)
    assert sum(scenario["answers"].values()) == 400
    for item in scenario["items"]:
        assert item["confirmed"] == item["rows_in_postgres"] == item["stock"] == 10
        assert item["left_in_redis"] == 0
    assert "paced sale, fullest stretch" in told["invariants"][5]["evidence"]
    assert told["wall_s"]["answered"] > 0
    assert told["wall_s"]["persisted"] > 0
    assert told["wall_s"]["told"] > 0
    assert "Verdict: pass" in printed
    assert "seed 5" in printed
    assert [each.name for each in (tmp_path / "build").iterdir()] == ["demo.json"]
    assert running_in(tmp_path) == []


async def test_a_run_that_cannot_be_played_leaves_no_earlier_verdict_behind(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "demo.json").write_text('{"verdict": "pass"}')
    code, printed = await played(cwd=tmp_path, FAIRLINE_PROVIDER="path", PATH="/nowhere")
    assert code == 1
    assert "was found" in printed
    assert not (tmp_path / "build" / "demo.json").exists()


@pytest.mark.timeout(300)
async def test_it_fails_when_postgres_does_not_have_what_a_buyer_was_told(tmp_path: Path) -> None:
    async with FullStack() as stack:
        history = stack.folder / "history"
        code, printed = await played("--on", str(stack.folder), cwd=tmp_path)
        assert code == 0, printed
        assert list(history.iterdir()) == []
        connection = await asyncpg.connect(stack.info["postgres_dsn"])
        try:
            await connection.execute(FORGETS)
        finally:
            await connection.close()
        code, printed = await played("--on", str(stack.folder), cwd=tmp_path)
        # What it was judged by is kept, and says the same once more.
        assert [checker.main([str(each)]) for each in history.iterdir()] == [checker.VIOLATED] * 2
    assert code == 1, printed
    told = result(tmp_path)
    assert told["verdict"] == "fail"
    broken = {each["name"]: each["evidence"] for each in told["invariants"] if not each["ok"]}
    assert set(broken) == {"no lost order"}
    assert "does not have the units that are sold to it" in broken["no lost order"]
    assert "BROKEN" in printed


@pytest.mark.timeout(300)
async def test_on_a_terminal_a_second_sale_stays_open_until_ctrl_c(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *SMALL,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that ^C reaches it as from a keyboard
    )
    os.close(theirs)
    os.set_blocking(ours, False)
    printed = bytearray()

    def read() -> None:
        try:
            printed.extend(os.read(ours, 65536))
        except OSError:
            asyncio.get_running_loop().remove_reader(ours)

    asyncio.get_running_loop().add_reader(ours, read)
    try:
        await eventually(lambda: b"Ctrl-C stops everything" in printed, within_s=PLAYED_WITHIN_S)
        room = re.search(rb"join it\s+(\S+)", printed)
        assert room is not None
        page = await asyncio.to_thread(urllib.request.urlopen, room[1].decode())
        with page:
            assert page.status == 200
        os.write(ours, b"\x03")
        async with asyncio.timeout(20):
            code = await process.wait()
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        if process.returncode is None:
            process.terminate()
            await process.wait()
        os.close(ours)
    assert code == 0, printed.decode()
    assert b"Verdict: " in printed
    assert result(tmp_path)["verdict"] == "pass"
    assert running_in(tmp_path) == []
