import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from fairline.cli import CliError
from fairline.cli.client import address
from tests.support.commands import fairline
from tests.unit.cli.conftest import SALE, FakeGateway

STACK = {"gateway_url": "http://127.0.0.1:1", "operator_key": "local"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "stack.json").write_text(json.dumps(STACK))
    return tmp_path


def found(data: Path, environ: dict[str, str], **flags: str) -> tuple[str, str]:
    at = address(data=data, environ=environ, **flags)
    return at.url, at.key


def test_flags_win_over_the_environment_and_that_over_the_stack(data: Path) -> None:
    environ = {"FAIRLINE_GATEWAY_URL": "http://env/", "FAIRLINE_OPERATOR_KEY": "env"}
    assert found(data, environ, url="http://flag", key="flag") == ("http://flag", "flag")
    assert found(data, environ) == ("http://env", "env")
    assert found(data, {}) == ("http://127.0.0.1:1", "local")


def test_the_key_may_come_from_a_file(data: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from file\n")
    assert found(data, {"FAIRLINE_OPERATOR_KEY_FILE": str(tmp_path / "key")}) == ("http://127.0.0.1:1", "from file")
    with pytest.raises(CliError, match="FAIRLINE_OPERATOR_KEY_FILE"):
        found(data, {"FAIRLINE_OPERATOR_KEY_FILE": str(tmp_path / "absent")})
    (tmp_path / "key").write_bytes(b"\xff")
    with pytest.raises(CliError, match="is not text in UTF-8"):
        found(data, {"FAIRLINE_OPERATOR_KEY_FILE": str(tmp_path / "key")})


def test_the_address_may_come_from_a_file_too(data: Path, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("http://from-a-file\n")
    environ = {"FAIRLINE_GATEWAY_URL_FILE": str(tmp_path / "url"), "FAIRLINE_OPERATOR_KEY": "env"}
    assert found(data, environ) == ("http://from-a-file", "env")


def test_the_key_of_the_local_stack_goes_nowhere_else(data: Path) -> None:
    with pytest.raises(CliError, match="no key for http://elsewhere"):
        found(data, {"FAIRLINE_GATEWAY_URL": "http://elsewhere"})
    assert found(data, {"FAIRLINE_GATEWAY_URL": "http://127.0.0.1:1/"})[1] == "local"


def test_without_any_address_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="fairline up"):
        address(data=tmp_path, environ={})


def test_a_stack_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")
    with pytest.raises(CliError, match="cannot be read"):
        address(data=tmp_path, environ={})


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, {"code": "unknown_sale", "detail": "There is no such sale."}, "There is no such sale. (unknown_sale)\n"),
        (403, {"code": "not_allowed", "title": "Not allowed"}, "Not allowed (not_allowed)\n"),
        (503, {"code": "unavailable", "detail": "No answer."}, "No answer. (unavailable): fairline check says which"),
        (500, ["what"], "The gateway answered 500 without saying why.\n"),
        (200, {"something": "else"}, "gave an answer that is none of a Fairline gateway"),
    ],
)
async def test_a_refusal_is_one_sentence_and_exit_code_1(
    gateway: FakeGateway, status: int, body: Any, says: str
) -> None:
    gateway.answers = [(status, body)]
    ran = await fairline("sale", "show", "spring")
    assert (ran.code, ran.out) == (1, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1


async def test_a_gateway_that_is_not_there_is_one_sentence_too(gateway: FakeGateway) -> None:
    ran = await fairline("sale", "show", "spring", "--url", "http://127.0.0.1:1")
    assert ran.code == 1
    assert "cannot be reached" in ran.err
    assert ran.err.count("\n") == 1


async def test_ids_cannot_break_out_of_their_place_in_the_address(gateway: FakeGateway) -> None:
    await fairline("sale", "show", "a/../b?c")
    assert gateway.last[1] == "/admin/sales/a%2F..%2Fb%3Fc"
    asked = len(gateway.calls)
    for arguments in (["sale", "show", ".."], ["sale", "end", ""], ["key", "revoke", "."], ["dlt", "discard", ".."]):
        ran = await fairline(*arguments)
        assert (ran.code, len(gateway.calls)) == (1, asked), arguments
        assert "is no name" in ran.err
        assert ("shell variable" in ran.err) == ("" in arguments)


@pytest.mark.parametrize(
    "options", [["--url", "http://a..b"], ["--url", "http://ann:x@127.0.0.1:1"], ["--key", "a\nb"]]
)
async def test_an_address_or_a_key_that_cannot_be_one_is_one_sentence_too(
    gateway: FakeGateway, options: list[str]
) -> None:
    ran = await fairline("sale", "show", "spring", *options)
    assert (ran.code, gateway.calls) == (1, [])
    assert "cannot be reached" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", ["check", "recover", "reconcile"])
@pytest.mark.parametrize("said", ["[]", '{"processes": []}', '{"\xff": 1}'])
async def test_a_foreign_stack_file_is_one_sentence(tmp_path: Path, command: str, said: str) -> None:
    (tmp_path / "stack.json").write_bytes(said.encode("latin-1"))
    ran = await fairline(command, *([] if command == "check" else ["spring"]), "--data", str(tmp_path))
    assert ran.code == 1
    assert "stack.json" in ran.err
    assert ran.err.count("\n") == 1


async def test_a_redis_that_is_none_is_one_sentence(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLINE_REDIS_URL", gateway.url.replace("http", "redis"))
    monkeypatch.setenv("FAIRLINE_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("FAIRLINE_ORDER_SERVICE_URL", "http://127.0.0.1:1")
    ran = await fairline("reconcile", "spring")
    assert ran.code == 1
    assert "Protocol error" in ran.err
    assert ran.err.count("\n") == 1


async def test_an_answer_in_many_pieces_is_read_whole_and_one_without_end_is_not(gateway: FakeGateway) -> None:
    gateway.answers = [(200, SALE | {"message": "x" * 4_000_000}), (200, SALE | {"message": "x" * 6_000_000})]
    assert len((await fairline("sale", "show", "spring", "--json")).json["message"]) == 4_000_000
    ran = await fairline("sale", "show", "spring")
    assert ran.code == 1
    assert "above 5,000,000 bytes" in ran.err


async def test_a_reader_that_has_had_enough_is_no_failure_of_ours(gateway: FakeGateway) -> None:
    gateway.answers = [(200, SALE | {"message": "long " * 100_000})]
    run = "from fairline.cli import main; main()"
    read, write = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", run, "sale", "show", "spring"), stdout=write, stderr=asyncio.subprocess.PIPE
    )
    os.close(write)
    os.close(read)
    _, said = await process.communicate()
    assert (process.returncode, said) == (141, b"")
