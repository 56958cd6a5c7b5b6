import json
import os
from pathlib import Path

import pytest
from aiohttp import web

from fairline.cli import CliError
from fairline.cli.check import addresses
from tests.support.commands import fairline
from tests.support.fake_sale import serving

NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("FAIRLINE_"):
            monkeypatch.delenv(name)


def test_the_parts_of_a_stack_are_all_its_copies_and_servers() -> None:
    stack = {
        "internal_urls": {"gateway": "http://g", "admission": "http://a", "admission-2": "http://b"},
        "redis_url": "redis://r",
        "kafka": "k:1",
        "postgres_dsn": "postgresql://p",
    }
    assert addresses(stack, {}) == {
        "gateway": "http://g/readyz",
        "admission": "http://a/readyz",
        "admission-2": "http://b/readyz",
        "notifier": "",
        "order_service": "",
        "redis": "redis://r",
        "kafka": "k:1",
        "postgres": "postgresql://p",
    }


def test_an_address_may_come_from_a_file_as_services_take_it(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://p:secret@db/x\n")
    assert addresses(None, {"FAIRLINE_POSTGRES_DSN_FILE": str(tmp_path / "dsn")})["postgres"].endswith("@db/x")
    with pytest.raises(CliError, match="absent cannot be read"):
        addresses(None, {"FAIRLINE_POSTGRES_DSN_FILE": str(tmp_path / "absent")})


def test_without_a_stack_the_environment_is_asked() -> None:
    found = addresses(None, {"FAIRLINE_GATEWAY_URL": "http://g/", "FAIRLINE_NOTIFIER_URL": "wss://n"})
    assert found["gateway"] == "http://g/readyz"
    assert found["notifier"] == "https://n"
    assert found["redis"] == ""


async def test_with_nothing_to_ask_the_sentence_says_what_to_do() -> None:
    ran = await fairline("check")
    assert ran.code == 1
    assert "fairline up" in ran.err


async def test_each_part_has_a_line_and_what_is_away_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ready(_: web.Request) -> web.Response:
        return web.json_response({"ready": True})

    async def not_ready(_: web.Request) -> web.Response:
        return web.json_response({"ready": False, "draining": False, "missing": {"redis": "gone"}}, status=503)

    app = web.Application()
    app.router.add_get("/readyz", ready)
    app.router.add_get("/orders/readyz", not_ready)
    async with serving(app) as url:
        monkeypatch.setenv("FAIRLINE_GATEWAY_URL", url)
        monkeypatch.setenv("FAIRLINE_ORDER_SERVICE_URL", f"{url}/orders")
        monkeypatch.setenv("FAIRLINE_NOTIFIER_URL", url.replace("http", "ws"))
        monkeypatch.setenv("FAIRLINE_REDIS_URL", f"redis://:password@{NOWHERE}/0")
        monkeypatch.setenv("FAIRLINE_KAFKA", NOWHERE)
        monkeypatch.setenv("FAIRLINE_POSTGRES_DSN", f"postgresql://me:password@{NOWHERE}/x")
        ran = await fairline("check")
        as_json = await fairline("check", "--json", "--also", f"admission={url}")
    lines = dict(line.split(None, 1) for line in ran.out.splitlines())
    assert ran.code == as_json.code == 1
    assert lines["gateway"].startswith("ok")
    assert lines["notifier"].startswith("ok")  # it answers; that is all a buyer's address can tell
    assert "--also admission=URL" in lines["admission"]
    assert "redis: gone" in lines["order_service"]
    for server in ("redis", "kafka", "postgres"):
        assert "cannot be reached" in lines[server], lines[server]
    assert "password" not in ran.out + ran.err
    assert ran.err == "Cannot work like this: order_service, redis, kafka, postgres.\n"
    assert {each["name"]: each["ok"] for each in as_json.json} == {
        "gateway": True,
        "notifier": True,
        "admission": True,
        "order_service": False,
        "redis": False,
        "kafka": False,
        "postgres": False,
    }


async def test_a_wrong_extra_address_is_refused() -> None:
    ran = await fairline("check", "--also", "admission")
    assert ran.code == 1
    assert "NAME=URL" in ran.err


async def test_addresses_that_cannot_be_any_are_lines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLINE_REDIS_URL", "redis://127.0.0.1:99999")
    monkeypatch.setenv("FAIRLINE_KAFKA", "127.0.0.1:99999")
    monkeypatch.setenv("FAIRLINE_POSTGRES_DSN", "postgresql://ann@127.0.0.1:99999/fairline")
    ran = await fairline("check", "--also", "gateway=http://a..b")
    assert ran.err == "Cannot work like this: gateway, redis, kafka, postgres.\n"


async def test_what_is_up_but_stopping_or_somebody_else_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = [web.json_response({"draining": True}, status=503), web.Response(status=404), web.Response(status=503)]

    async def answer(_: web.Request) -> web.Response:
        return answers.pop(0)

    app = web.Application()
    app.router.add_get("/readyz", answer)
    (tmp_path / ".fairline").mkdir()
    async with serving(app) as url:
        stack = {"internal_urls": {"gateway": url}, "redis_url": "", "kafka": "", "postgres_dsn": ""}
        (tmp_path / ".fairline" / "stack.json").write_text(json.dumps(stack))
        said = [(await fairline("check")).out for _ in range(3)]
    assert "it is stopping" in said[0]
    assert "answered 404" in said[1]
    assert "does not say why" in said[2]
