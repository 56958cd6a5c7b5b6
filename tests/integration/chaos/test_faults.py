"""Every fault of the breaker really happens, and is over afterwards. One that does nothing would find nothing."""

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from fairline.events import TicketLapsed
from fairline.ids import new_ticket_id
from fairline.store.client import connect
from fairline.stream.writer import EventWriter
from loadtest.chaos.faults import Fault, Kind, NotThrownError, Scene
from loadtest.chaos.on_postgres import connection
from loadtest.chaos.on_processes import family
from loadtest.chaos.plan import KINDS
from loadtest.chaos.world import PROCESSES, SERVERS, SERVICES
from tests.integration.chaos.conftest import get, lacks, whole
from tests.support.sale import a_name
from tests.support.stack import eventually


@asynccontextmanager
async def broken(scene: Scene, kind: str, target: str, *, amount: float = 0.5) -> AsyncIterator[None]:
    fault, how = Fault(kind=kind, target=target, amount=amount), KINDS[kind]
    await how.begin(scene, fault)
    try:
        yield
    finally:
        await how.end(scene, fault)


def running_pid(scene: Scene, name: str) -> int:
    pid = scene.world.pid(name)
    assert pid is not None
    return pid


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def one_of_each(scene: Scene, name: str) -> bool:
    """The server takes connections again."""
    return await scene.world.stack.supervisor.program(name).ready()


def test_every_process_and_every_kind_has_a_target() -> None:
    assert set(PROCESSES) == {*SERVICES, *SERVERS}
    for kind in ("kill", "term", "stop"):
        assert set(KINDS[kind].targets) == set(PROCESSES)
    assert all(KINDS[kind].targets for kind in KINDS)


@pytest.mark.parametrize("name", ["gateway-2", "admission", "order_service", "notifier", "postgres", "kafka", "redis"])
async def test_a_killed_process_is_gone_and_another_one_comes(scene: Scene, name: str) -> None:
    before = running_pid(scene, name)
    async with broken(scene, "kill", name):
        await eventually(lambda: scene.world.pid(name) not in (before, None))
    assert any(line.startswith(f"{name} died (SIGKILL") for line in scene.world.said)
    await eventually(partial(one_of_each, scene, name))


@pytest.mark.parametrize("name", ["notifier-2", "postgres"])
async def test_a_process_that_is_asked_to_end_ends_cleanly_and_comes_back(scene: Scene, name: str) -> None:
    before = running_pid(scene, name)
    async with broken(scene, "term", name):
        await eventually(lambda: scene.world.pid(name) not in (before, None))
    assert any(line.startswith(f"{name} died (exit code 0") for line in scene.world.said)


@pytest.mark.parametrize("name", ["gateway", "postgres", "redis"])
async def test_a_frozen_process_and_its_children_stand_still_until_they_are_woken(scene: Scene, name: str) -> None:
    pid = running_pid(scene, name)
    async with broken(scene, "stop", name):
        assert len(family(pid)) > (1 if name == "postgres" else 0)
        await eventually(lambda: {state_of(each) for each in family(pid)} == {"T"})
    await eventually(lambda: "T" not in {state_of(each) for each in family(pid)})
    assert running_pid(scene, name) == pid


async def test_one_that_is_killed_while_it_is_frozen_leaves_no_frozen_children(scene: Scene) -> None:
    pid = running_pid(scene, "postgres")
    children = family(pid)[1:]
    async with broken(scene, "stop", "postgres"):
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    await whole(scene.world)


async def test_a_process_that_is_held_down_cannot_be_killed(scene: Scene) -> None:
    await scene.world.stack.supervisor.hold("notifier-2")
    try:
        with pytest.raises(NotThrownError, match="notifier-2 is down"):
            await KINDS["kill"].begin(scene, Fault(kind="kill", target="notifier-2"))
    finally:
        await scene.world.stack.supervisor.release("notifier-2")


@pytest.mark.parametrize(
    ("kind", "target", "service", "server"),
    [
        ("cut", "gateway>redis", "gateway", "redis"),
        ("cut", "order_service-2>postgres", "order_service-2", "postgres"),
        ("cut", "admission>kafka", "admission", "kafka"),
        ("hole", "admission-2>redis up", "admission-2", "redis"),
        ("hole", "order_service>postgres down", "order_service", "postgres"),
    ],
)
async def test_a_service_lacks_what_its_wire_does_not_reach_and_nobody_else_does(
    scene: Scene, kind: str, target: str, service: str, server: str
) -> None:
    other = service.removesuffix("-2") if service.endswith("-2") else f"{service}-2"

    async def noticed() -> bool:
        return server in await lacks(scene.world, service)

    async def others_lack_nothing() -> bool:
        return await lacks(scene.world, other) == set()

    async with broken(scene, kind, target):
        await eventually(noticed)
        await eventually(others_lack_nothing)
    await whole(scene.world)


async def test_buyers_who_are_cut_off_from_a_gateway_reach_the_other_one(scene: Scene) -> None:
    async with broken(scene, "cut", "buyers>gateway"):
        with pytest.raises(aiohttp.ClientError):
            await get(f"{scene.world.url('gateway')}/sales/{scene.sale.sale_id}")
        status, _ = await get(f"{scene.world.url('gateway-2')}/sales/{scene.sale.sale_id}")
        assert status == 200
    status, _ = await get(f"{scene.world.url('gateway')}/sales/{scene.sale.sale_id}")
    assert status == 200


async def test_a_slow_wire_makes_a_buyer_wait(scene: Scene) -> None:
    async with broken(scene, "slow", "buyers>gateway", amount=0.4):
        began = time.monotonic()
        await get(f"{scene.world.url('gateway')}/readyz")
        assert time.monotonic() - began >= 0.8


async def test_the_answer_of_a_call_is_lost_and_the_call_was_carried_out(scene: Scene) -> None:
    key = {"Authorization": f"Bearer {scene.world.operator_key}"}
    name = a_name(of="key")
    async with broken(scene, "lost", "buyers>gateway", amount=1), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.post(
                f"{scene.world.url('gateway')}/admin/keys", json={"name": name, "role": "viewer"}, headers=key
            ):
                pass
        assert scene.world.wires["buyers>gateway"].wire.lost == 1
    _, said = await get(f"{scene.world.around('gateway-2')}/admin/keys", key=scene.world.operator_key)
    assert name in {each["name"] for each in said["keys"]}


async def test_the_answer_to_a_publish_is_lost_and_the_record_is_there_once(scene: Scene) -> None:
    """The producer sends it again, and Kafka knows it by its sequence number."""
    wire = scene.world.wires["admission>kafka"].wire
    before, ticket_id = wire.lost, new_ticket_id()
    fact = TicketLapsed(
        sale_id=scene.sale.sale_id,
        ticket_id=ticket_id,
        sku="lamp",
        buyer_id="anna",
        quantity=1,
        arrival=1,
        reason="",
        at_ms=1,
    )
    address = scene.world.own("admission")["FAIRLINE_KAFKA"]
    writer = EventWriter(address, "admission")
    try:
        await writer.check()  # connected
        async with broken(scene, "publish", "admission>kafka", amount=1):
            assert await writer.send([fact], 20) == [True]
            assert wire.lost == before + 1
    finally:
        await writer.close()

    async def written() -> bool:
        async with connection(scene.world) as postgres:
            return bool(await postgres.fetchval("SELECT 1 FROM ticket_history WHERE ticket_id = $1", ticket_id))

    await eventually(written)


INSERT = (
    "INSERT INTO orders (ticket_id, sale_id, sku, buyer_id, verdict, reason, units, slots, epoch, arrival, number,"
    " reserved_at, decided_at) VALUES (gen_random_uuid(), $1, 'lamp', $2, 'confirmed', NULL, '{1}', '{1}', 0, 1, 1,"
    " now(), now())"
)


async def insert(scene: Scene, buyer: str = "anna") -> None:
    """As the order service would, by the default rights of a new session, and taken back."""
    postgres = await asyncpg.connect(scene.world.around("postgres"), timeout=10)
    try:
        both = postgres.transaction()
        await both.start()
        await postgres.execute(INSERT, scene.sale.sale_id, buyer)
        await both.rollback()
    finally:
        await postgres.close()


@pytest.mark.parametrize(
    ("target", "sqlstate"),
    [("away", "55000"), ("readonly", "25006"), ("full", "53100")],
    ids=["away", "readonly", "full"],
)
async def test_a_postgres_that_does_not_write_says_so_and_ends_the_sessions_that_would(
    scene: Scene, target: str, sqlstate: str
) -> None:
    await insert(scene)
    async with broken(scene, "postgres", target):
        with pytest.raises(asyncpg.PostgresError) as refused:
            await insert(scene)
        assert refused.value.sqlstate == sqlstate
    await insert(scene)


async def test_sessions_of_before_do_not_write_either(scene: Scene) -> None:
    postgres = await asyncpg.connect(scene.world.around("postgres"), timeout=10)
    async with broken(scene, "postgres", "readonly"):
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await postgres.execute(INSERT, scene.sale.sale_id, "anna")
    await postgres.close()


async def test_a_slow_postgres_takes_its_time(scene: Scene) -> None:
    async with broken(scene, "postgres", "slow", amount=0.7):
        began = time.monotonic()
        await insert(scene)
        assert time.monotonic() - began >= 0.7


async def test_poison_is_refused_for_what_it_is_and_other_orders_are_written(scene: Scene) -> None:
    async with broken(scene, "poison", "orders", amount=0.0):
        for buyer in ("anna", "ben", "cleo"):
            with pytest.raises(asyncpg.DataError):
                await insert(scene, buyer)
        await insert(scene, "dora")
    await insert(scene, "anna")


async def test_a_redis_that_is_rolled_back_has_forgotten_the_last_second_and_no_more(scene: Scene) -> None:
    redis = connect(scene.world.around("redis"), name="test", timeout_s=10)
    replid = (await redis.info("replication"))["master_replid"]
    await redis.set("breaker:before", 1)
    rollback, how = Fault(kind="redis", target="rollback", amount=0), KINDS["redis"]
    await how.prepare(scene, rollback)
    await redis.set("breaker:after", 1)
    await how.begin(scene, rollback)
    await how.end(scene, rollback)
    assert await redis.exists("breaker:before") == 1
    assert await redis.exists("breaker:after") == 0
    assert (await redis.info("replication"))["master_replid"] != replid
    await redis.aclose()


@pytest.mark.parametrize("target", ["empty", "flush"])
async def test_a_redis_that_lost_everything_is_empty(scene: Scene, target: str) -> None:
    redis = connect(scene.world.around("redis"), name="test", timeout_s=10)
    replid = (await redis.info("replication"))["master_replid"]
    async with broken(scene, "redis", target):
        pass
    assert await redis.hlen(f"fairline:{{{scene.sale.sale_id}}}:tickets") == 0
    assert ((await redis.info("replication"))["master_replid"] == replid) == (target == "flush")
    await redis.aclose()


@pytest.mark.parametrize("shift_s", [-86_400, 3_600])
async def test_a_clock_jumps_in_one_service_and_comes_back(scene: Scene, shift_s: float) -> None:
    async def made_at() -> timedelta:
        headers = {"Authorization": f"Bearer {scene.world.operator_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(
                f"{scene.world.around('gateway')}/admin/keys", json={"name": a_name(of="key"), "role": "viewer"}
            ) as answer,
        ):
            said = await answer.json()
            assert answer.status == 201, said
            return datetime.fromisoformat(said["created_at"]) - datetime.now(UTC)

    async with broken(scene, "clock", "gateway", amount=shift_s):
        assert abs(await eventually(made_at) - timedelta(seconds=shift_s)) < timedelta(minutes=5)
    assert abs(await eventually(made_at)) < timedelta(minutes=5)


async def sale(scene: Scene) -> dict[str, Any]:
    async def shown() -> dict[str, Any]:
        status, said = await get(url, key=scene.world.operator_key)
        assert status == 200, said
        return dict(said)

    url = f"{scene.world.around('gateway')}/admin/sales/{scene.sale.sale_id}"
    return await eventually(shown)


async def test_operators_do_what_they_are_told(scene: Scene) -> None:
    async with broken(scene, "operator", "rate", amount=1.0):
        assert (await sale(scene))["rate_per_s"] == 60.0
    async with broken(scene, "operator", "capacity", amount=0.0):
        assert (await sale(scene))["capacity"] == 3
    for target, stock in (("raise", 13), ("lower", 10)):
        async with broken(scene, "operator", target, amount=0.5):
            assert (await sale(scene))["items"][0]["stock"] == stock
    async with broken(scene, "operator", "pause"):
        assert (await sale(scene))["state"] == "paused"
    assert (await sale(scene))["state"] == "open"
    async with broken(scene, "operator", "end"):
        assert (await sale(scene))["state"] in {"ended", "closed"}
    with pytest.raises(NotThrownError):
        await KINDS["operator"].begin(scene, Fault(kind="operator", target="rate"))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_mending_what_is_not_broken_does_no_harm(scene: Scene, kind: Kind) -> None:
    for target in kind.targets:
        if target != "pause":
            await kind.end(scene, Fault(kind="any", target=target))
    await whole(scene.world)
