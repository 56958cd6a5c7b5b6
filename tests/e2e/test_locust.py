"""The first locust buyer against a whole stack, from an environment and a process of its own; then the invariants."""

import asyncio
import json
import os
import secrets
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairline.cli.client import Address, Operator
from fairline.sale import Item, SaleDefinition, Validator
from loadtest import read_finals
from loadtest.bystander import Bystander
from loadtest.checker import check
from loadtest.history import read
from loadtest.recorder import Recorder
from tests.support.stack import PATIENCE_S, FullStack, cannot_be_had
from tests.support.trouble import opened

ROOT = Path(__file__).resolve().parents[2]
LOCUST = ROOT / ".venv-load" / "bin" / "locust"
USERS = 50
RUN_S = 20


def sale() -> SaleDefinition:
    """Paced, so that it sells out in the middle of the run and every kind of answer comes up."""
    return SaleDefinition(
        sale_id=f"load-{secrets.token_hex(3)}",
        name="Load",
        items=tuple(Item(sku=sku, name=sku, stock=60) for sku in ("teapot", "lamp")),
        rate_per_s=20.0,
        capacity=10,
        validator=Validator(kind="simulated", decline_share=0.1, seed=1),
    )


async def run_locust(host: str, sale_id: str, history: Path) -> list[dict[str, Any]]:
    """Locust's own figures, one entry a kind of request."""
    process = await asyncio.create_subprocess_exec(
        *(str(LOCUST), "-f", "loadtest/locustfile.py", "--headless", "--json", "--only-summary", "--skip-log-setup"),
        *("--host", host, "--sale", sale_id, "--history", str(history)),
        *("-u", str(USERS), "-r", str(USERS), "-t", f"{RUN_S}s", "-s", "20"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(RUN_S + PATIENCE_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, (out + err).decode()
    figures: list[dict[str, Any]] = json.loads(out)
    return figures


@pytest.mark.timeout(300)
async def test_fifty_buyers_for_twenty_seconds_break_nothing(tmp_path: Path) -> None:
    if not LOCUST.exists():
        cannot_be_had("there is no .venv-load: make .venv-load/.ready")
    definition = sale()
    sale_id = definition.sale_id
    async with FullStack() as stack:
        info = stack.info
        at = {name: info[name] for name in ("redis_url", "postgres_dsn")}
        with Recorder(tmp_path / "others.jsonl", sale_id=sale_id) as others:
            async with (
                Operator(Address(info["gateway_url"], info["operator_key"])) as operator,
                Bystander(sale_id, others, **at) as bystander,
            ):
                await bystander.listening(within_s=PATIENCE_S)
                others.sent("create", body=msgspec.to_builtins(definition))
                await operator.create(definition)
                others.sent("open")
                await opened(operator, sale_id)
                figures = await run_locust(info["gateway_url"], sale_id, tmp_path / "buyers.jsonl")
                left = await bystander.at_rest(within_s=PATIENCE_S)
                assert not left
                others.rest(rested=True)
        finals = await read_finals.read(sale_id, kafka=info["kafka"], **at)
    history = read([tmp_path / "buyers.jsonl", tmp_path / "others.jsonl"])
    by_name = {each["name"]: each for each in figures}
    assert set(by_name) == {"sale", "join", "result", "status"}
    assert {name: each["num_failures"] for name, each in by_name.items()} == dict.fromkeys(by_name, 0)
    joins = [call.answer for call in history.calls if call.sent.what == "join" and call.answer]
    assert by_name["join"]["num_requests"] == len(joins) > 500
    assert by_name["result"]["num_requests"] == sum(answer.token for answer in joins) > 120
    assert {"sold_out", "already_bought"} <= {answer.code for answer in joins}
    assert len(finals.postgres.units) == sum(item.stock for item in definition.items)
    found = check(history, finals)
    assert [finding.verdict for finding in found] == ["ok"] * 8, "\n".join(map(str, found))


async def test_it_refuses_to_load_anything_but_this_machine() -> None:
    if not LOCUST.exists():
        cannot_be_had("there is no .venv-load: make .venv-load/.ready")
    process = await asyncio.create_subprocess_exec(
        *(str(LOCUST), "-f", "loadtest/locustfile.py", "--headless", "-t", "1s"),
        *("--host", "http://192.0.2.1", "--history", "/nowhere"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode
    assert b"loopback addresses only" in out
