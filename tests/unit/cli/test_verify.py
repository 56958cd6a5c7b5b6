import os
from pathlib import Path

import pytest

from loadtest.recorder import Recorder
from tests.support.commands import fairline


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("FAIRLINE_"):
            monkeypatch.delenv(name)


async def test_with_no_servers_to_read_the_sentence_says_what_to_do() -> None:
    ran = await fairline("verify", "spring")
    assert ran.code == 2
    assert "redis, kafka, postgres" in ran.err
    assert "fairline up" in ran.err


async def test_a_server_that_is_away_is_not_taken_for_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLINE_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("FAIRLINE_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("FAIRLINE_POSTGRES_DSN", "postgresql://127.0.0.1:1/x")
    ran = await fairline("verify", "spring")
    assert ran.code == 2
    assert "Redis cannot be read" in ran.err


async def test_a_wrong_address_is_not_taken_for_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "KAFKA", "POSTGRES_DSN"):
        monkeypatch.setenv(f"FAIRLINE_{name}", "nowhere:1")
    ran = await fairline("verify", "spring")
    assert ran.code == 2
    assert "cannot be understood" in ran.err
    assert "redis://" in ran.err


async def test_what_cannot_be_found_out_is_not_taken_for_a_violation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "stack.json").write_text("{")
    assert (await fairline("verify", "spring", "--data", str(tmp_path))).code == 2
    monkeypatch.setenv("FAIRLINE_POSTGRES_DSN_FILE", str(tmp_path / "absent"))
    ran = await fairline("verify", "spring")
    assert (ran.code, ran.out) == (2, "")
    assert "absent cannot be read" in ran.err


async def test_a_history_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "KAFKA", "POSTGRES_DSN"):
        monkeypatch.setenv(f"FAIRLINE_{name}", "nowhere:1")
    ran = await fairline("verify", "spring", "--history", "absent.jsonl")
    assert ran.code == 2
    assert ran.err == "absent.jsonl cannot be opened: No such file or directory.\n"


async def test_a_history_that_cannot_be_read_says_which_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("REDIS_URL", "KAFKA", "POSTGRES_DSN"):
        monkeypatch.setenv(f"FAIRLINE_{name}", "nowhere:1")
    path = tmp_path / "a.jsonl"
    with Recorder(path, sale_id="spring"):
        pass
    path.write_bytes(path.read_bytes() + b"no json\n")
    ran = await fairline("verify", "spring", "--history", str(path))
    assert ran.code == 2
    assert "a.jsonl:2" in ran.err
