"""An operator's day by the command line, on a whole stack."""

import json
from collections.abc import AsyncIterator

import pytest

from tests.support.commands import fairline
from tests.support.stack import FullStack, eventually

PATIENT = {"FAIRLINE_GATEWAY_ACKNOWLEDGE_S": "18"}  # nearly as long as the command waits


@pytest.fixture(scope="module")
async def stack() -> AsyncIterator[FullStack]:
    async with FullStack(environ=PATIENT) as running:
        yield running


async def ok(stack: FullStack, *arguments: str) -> str:
    """In this process, because starting another takes most of a second; one test asks the real thing."""
    ran = await fairline(*arguments, "--data", str(stack.folder))
    assert ran.code == 0, (arguments, ran)
    return ran.out


async def refused(stack: FullStack, *arguments: str) -> str:
    ran = await fairline(*arguments, "--data", str(stack.folder))
    assert (ran.code, ran.out) == (1, ""), (arguments, ran)
    assert ran.err.count("\n") == 1, ran.err
    return ran.err


async def test_a_sale_from_its_creation_to_its_end(stack: FullStack) -> None:
    made = await ok(stack, "sale", "create", "--id", "cli-day", "--name", "A day", "--item", "teapot=5", "--json")
    assert json.loads(made)["state"] == "draft"
    assert "cli-day\tdraft" in await ok(stack, "sale", "list")
    assert json.loads(await ok(stack, "sale", "open", "cli-day", "--reason", "morning", "--json"))["state"] == "open"
    assert "50 a second" in await ok(stack, "rate", "cli-day", "50")
    assert "as fast as it can" in await ok(stack, "rate", "cli-day", "none")
    assert "9 units (version 1)" in await ok(stack, "stock", "cli-day", "teapot", "9")
    assert "9 units (version 7)" in await ok(stack, "stock", "cli-day", "teapot", "9", "--version", "7")
    assert "teapot\t9\t9" in await ok(stack, "sale", "show", "cli-day")
    assert json.loads(await ok(stack, "sale", "pause", "cli-day", "--json"))["state"] == "paused"
    assert json.loads(await ok(stack, "sale", "resume", "cli-day", "--json"))["state"] == "open"
    assert json.loads(await ok(stack, "stats", "cli-day", "--json"))["joined"] == 0
    assert json.loads(await ok(stack, "sale", "end", "cli-day", "--json"))["state"] in {"ended", "closed"}
    assert "(illegal_move)" in await refused(stack, "sale", "open", "cli-day")


async def test_what_cannot_be_done_is_one_sentence(stack: FullStack) -> None:
    assert "(unknown_sale)" in await refused(stack, "sale", "show", "nowhere")
    assert "(bad_key)" in await refused(stack, "sale", "list", "--key", "wrong")
    assert "(stale_version)" in await _stale(stack)


async def _stale(stack: FullStack) -> str:
    await ok(stack, "sale", "create", "--id", "cli-stale", "--name", "x", "--item", "teapot=5")
    await ok(stack, "stock", "cli-stale", "teapot", "6", "--version", "3")
    return await refused(stack, "stock", "cli-stale", "teapot", "7", "--version", "2")


async def test_a_key_opens_what_its_role_allows_until_it_is_revoked(stack: FullStack) -> None:
    key = (await ok(stack, "key", "add", "ada", "--role", "viewer")).strip()
    assert "ada\tviewer" in await ok(stack, "key", "list")
    await ok(stack, "sale", "list", "--key", key)
    assert "(not_allowed)" in await refused(stack, "key", "list", "--key", key)
    assert "(key_exists)" in await refused(stack, "key", "add", "ada")
    assert "revoked" in await ok(stack, "key", "revoke", "ada")

    async def shut_out() -> bool:
        return (await fairline("sale", "list", "--key", key, "--data", str(stack.folder))).code == 1

    assert await eventually(shut_out)
    assert "(unknown_key)" in await refused(stack, "key", "revoke", "ada")


async def test_check_has_a_line_for_each_part_and_names_the_one_that_is_away(stack: FullStack) -> None:
    lines = (await ok(stack, "check")).splitlines()
    assert [line.split()[:2] for line in lines] == [
        [name, "ok"] for name in ("gateway", "notifier", "admission", "order_service", "redis", "kafka", "postgres")
    ]
    await ok(stack, "stack", "stop", "order_service")
    try:
        code, printed = await stack.cli("check")  # the installed command, with FAIRLINE_DATA
    finally:
        await ok(stack, "stack", "start", "order_service")
    assert code == 1
    assert "order_service  NOT OK" in printed
    assert "Cannot work like this: order_service." in printed
