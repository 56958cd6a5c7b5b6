"""The whole service on real servers: a sale, its orders and ends come in over Kafka; operators read them over HTTP."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from fairline import events
from fairline.events import SaleApplied, SaleCounted, TicketDeclined, TicketLapsed
from fairline.stream import topics
from fairline.stream.reader import EventReader
from fairline.stream.writer import EventWriter
from order_service.app import start
from order_service.settings import OrderServiceSettings
from tests.support.orders import NOWHERE, a_sale_id, order, sale, settings
from tests.support.stack import eventually

DEADLINE_S = 60.0


class Service:
    """A running order service, asked over HTTP."""

    def __init__(self, chosen: OrderServiceSettings, http: aiohttp.ClientSession) -> None:
        self.url = f"http://127.0.0.1:{chosen.internal_port}"
        self._http = http

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and body; a service that does not listen yet is status 0."""
        try:
            async with self._http.get(self.url + path) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if "json" in answer.content_type else text
        except aiohttp.ClientConnectionError:
            return 0, None

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        """Status and body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._http.post(self.url + path, data=data) as answer:
            return answer.status, await answer.json(content_type=None)

    async def until(self, path: str, status: int, **wanted: object) -> Any:
        """The body, as soon as it has this status and these fields."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found, body = await self.get(path)
            if found == status and all(body.get(name) == value for name, value in wanted.items()):
                return body
            assert time.monotonic() < deadline, (found, body)
            await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def _run(chosen: OrderServiceSettings) -> AsyncIterator[Service]:
    stopping = asyncio.Event()
    running = asyncio.create_task(start(chosen, stopping))
    async with aiohttp.ClientSession() as http:
        try:
            yield Service(chosen, http)
        finally:
            stopping.set()
            await asyncio.wait_for(running, 30)


@pytest.fixture
async def service(kafka: str, migrated_dsn: str) -> AsyncIterator[Service]:
    await topics.create(kafka, partitions=4, replication=1, within_s=DEADLINE_S)
    chosen = settings(migrated_dsn, kafka=kafka).model_copy(update={"internal_port": _free_port()})
    async for one in _run(chosen):
        yield one


@pytest.fixture
async def publisher(kafka: str) -> AsyncIterator[EventWriter]:
    writer = EventWriter(kafka, "test")
    yield writer
    await writer.close()


async def test_a_sale_its_orders_and_its_tickets_can_be_read(
    service: Service, publisher: EventWriter, kafka: str
) -> None:
    sale_id = a_sale_id()
    early = order(sale_id, 1)  # before its sale is known
    assert all(await publisher.send([early], DEADLINE_S))
    ended: dict[str, Any] = {
        "sale_id": sale_id,
        "sku": "seat",
        "buyer_id": "eve",
        "quantity": 1,
        "arrival": 9,
        "at_ms": 5,
    }
    facts = [
        sale(sale_id),
        sale(sale_id, version=2, action="open", reason="it is time"),
        order(sale_id, 2),
        order(sale_id, 3, units=(3, 4), slots=(1, 2)),
        order(sale_id, 2, buyer_id="bob"),
        TicketDeclined(ticket_id=order(sale_id).ticket_id, reason="payment_declined", **ended),
        TicketLapsed(ticket_id=order(sale_id).ticket_id, reason="no_answer", **ended),
        SaleCounted(
            sale_id=sale_id, epoch=0, counts={"seat:asked": 9, "seat:SOLD_OUT": 2, ":refused:x": 1}, at_ms=7_000
        ),
        SaleCounted(sale_id=sale_id, epoch=0, counts={"seat:asked": 4}, at_ms=6_000),
    ]
    assert all(await publisher.send(facts, DEADLINE_S))

    outcomes = {"CONFIRMED": 3, "RELEASED": 1, "DECLINED": 1, "LAPSED": 1, "LEFT": 0, "SOLD_OUT": 0}
    stats = await service.until(f"/internal/sales/{sale_id}/stats", 200, outcomes=outcomes, version=2)
    assert stats["reasons"] == {
        "RELEASED": {"unit_taken": 1},
        "DECLINED": {"payment_declined": 1},
        "LAPSED": {"no_answer": 1},
    }
    counted = stats["counted"]
    assert (counted["at"], counted["asked"], counted["sold_out"]) == ("1970-01-01T00:00:07Z", 9, 2), "the newest"
    assert counted["refused"] == {"x": 1}
    assert [(of["sku"], of["asked"], of["refused"]) for of in counted["items"]] == [("seat", 9, {})]
    (item,) = stats["items"]
    assert (item["sku"], item["stock"], item["sold"]) == ("seat", 10, 4)

    _, history = await service.get(f"/internal/sales/{sale_id}/history?limit=1")
    assert [(one["version"], one["action"], one["reason"]) for one in history["changes"]] == [(2, "open", "it is time")]
    assert history["changes"][0]["snapshot"]["sale_id"] == sale_id
    _, history = await service.get(f"/internal/sales/{sale_id}/history?limit=1&cursor={history['next']}")
    assert [one["version"] for one in history["changes"]] == [1]
    assert history["next"] is None

    units, cursor = [], ""
    while True:
        _, page = await service.get(f"/internal/sales/{sale_id}/sold?limit=3{cursor}")
        units += page["units"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert [one["unit"] for one in units] == [1, 2, 3, 4]
    assert units[0]["ticket_id"] == early.ticket_id

    reader = EventReader(kafka, [events.RESULTS], f"look-{sale_id}", "test")
    applied: set[int] = set()
    while 2 not in applied:
        batch = await reader.batch(1000, 1)
        mine = (one.fact for one in batch if isinstance(one.fact, SaleApplied) and one.fact.sale_id == sale_id)
        applied |= {fact.version for fact in mine}
    await reader.close()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/internal/sales/no-such-sale/stats", 404, "unknown_sale"),
        ("/internal/sales/no-such-sale/history", 404, "unknown_sale"),
        ("/internal/sales/no-such-sale/sold?limit=5", 404, "unknown_sale"),
        ("/internal/sales/No%20Sale/stats", 400, "invalid_query"),
        ("/internal/sales/s/everything", 404, "not_found"),
        ("/internal/sales/s/history?limit=0", 400, "invalid_query"),
        ("/internal/sales/s/history?limit=1001", 400, "invalid_query"),
        ("/internal/sales/s/history?limit=ten", 400, "invalid_query"),
        ("/internal/sales/s/sold?colour=red", 400, "invalid_query"),
        ("/internal/dead-letters/no-such-letter", 404, "unknown_dead_letter"),
        ("/internal/dead-letters?limit=0", 400, "invalid_query"),
        ("/internal/dead-letters?state=lost", 400, "invalid_query"),
        ("/internal/dead-letters?sale_id=No%20Sale", 400, "invalid_query"),
        ("/internal/dead-letters?colour=red", 400, "invalid_query"),
        ("/internal/dead-letters/x/replay", 405, "method_not_allowed"),
        ("/internal/dead-letters/x/forget", 404, "not_found"),
        ("/internal/audit?cursor=x", 400, "invalid_query"),
        ("/internal/audit?state=open", 400, "invalid_query"),
        ("/internal/audits", 404, "not_found"),
    ],
)
async def test_a_bad_question_is_a_problem_with_a_code(service: Service, path: str, status: int, code: str) -> None:
    body = await service.until(path, status)
    assert body["code"] == code
    assert body["status"] == status


async def test_a_cursor_that_no_page_gave_is_a_problem_too(service: Service, publisher: EventWriter) -> None:
    sale_id = a_sale_id()
    assert all(await publisher.send([sale(sale_id)], DEADLINE_S))
    await service.until(f"/internal/sales/{sale_id}/stats", 200)
    for page in ("history?cursor=x", "sold?cursor=x", "sold?cursor=a:99999999999", "sold?cursor=%C3%A4:1"):
        status, body = await service.get(f"/internal/sales/{sale_id}/{page}")
        assert (status, body["code"]) == (400, "invalid_query"), page


async def test_a_dead_letter_is_found_handled_and_in_the_audit_log(service: Service, publisher: EventWriter) -> None:
    sale_id = a_sale_id()
    poison = order(sale_id, units=(0,))
    assert all(await publisher.send([sale(sale_id), poison], DEADLINE_S))
    history = f"/internal/sales/{sale_id}/stats"
    await service.until(history, 200, reasons={"RELEASED": {"not_writable": 1}})

    async def listed() -> list[Any]:
        _, found = await service.get(f"/internal/dead-letters?sale_id={sale_id}&state=open")
        return list(found["dead_letters"])

    (letter,) = await eventually(listed)
    assert (letter["ticket_id"], letter["verdict"]) == (poison.ticket_id, "failed")
    path = f"/internal/dead-letters/{letter['id']}"
    act = {"operator": "ada", "role": "operator", "reason": "called the buyer", "request_id": "r"}
    assert (await service.post(f"{path}/replay", act))[1]["code"] == "order_failed"
    assert (await service.post(f"{path}/discard", act))[1]["state"] == "discarded"
    assert await listed() == []
    _, log = await service.get(f"/internal/audit?sale_id={sale_id}")
    (entry,) = log["acts"]
    assert (entry["action"], entry["subject"], entry["operator"]) == ("dead_letter.discard", letter["id"], "ada")
    assert (entry["reason"], entry["request_id"], entry["role"]) == ("called the buyer", "r", "operator")
    for body in (b"{", {}, act | {"colour": "red"}, act | {"reason": "x" * 501}):
        status, refused = await service.post(f"{path}/discard", body)
        assert (status, refused["code"]) == (400, "invalid_body")
    assert (await service.post(f"{path}/discard", b" " * 9000))[0] == 413
    assert (await service.post(f"{path}/readmitted", {"ticket_id": "no ticket"}))[1]["code"] == "invalid_body"


async def test_ready_when_everything_it_needs_is_there(service: Service) -> None:
    assert await service.until("/readyz", 200, ready=True)
    _, metrics = await service.get("/metrics")
    assert "fairline_consumer_lag" in metrics
    assert 'fairline_dead_letters_total{topic="fairline.orders"} 0.0' in metrics  # or an alert would miss the first


async def test_it_starts_and_lives_with_nothing_there_and_says_what_is_missing() -> None:
    chosen = settings(f"postgresql://a:b@{NOWHERE}/c", kafka=NOWHERE).model_copy(update={"internal_port": _free_port()})
    async for service in _run(chosen):
        body = await service.until("/readyz", 503)
        assert {"postgres", "kafka"} <= set(body["missing"])
        assert (await service.get("/livez"))[0] == 200
        status, body = await service.get("/internal/sales/s/stats")
        assert (status, body["code"]) == (503, "unavailable")
