"""D2, V7: what a rebuild of a lost Redis asks of Postgres, and how the epoch is raised under the sale's row lock."""

import asyncio
import json
from typing import Any

import pytest

from fairline.clock import now_ms
from fairline.events import TicketDeclined
from order_service.queries import query
from order_service.reads import Reads
from order_service.tickets import Tickets
from tests.support.orders import Desk, a_sale_id, order, record, sale, words


class Port:
    """The internal port without a socket."""

    def __init__(self, desk: Desk) -> None:
        self._app = Reads(desk.postgres, self._no_health)

    async def ask(self, path: str, body: bytes | None = None, *, method: str | None = None) -> tuple[int, Any]:
        """Status and body."""
        said: list[dict[str, Any]] = []
        path, _, query_string = path.partition("?")
        method = method or ("GET" if body is None else "POST")
        scope = {"type": "http", "path": path, "query_string": query_string.encode(), "method": method}

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body or b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        await self._app(scope, receive, send)
        return said[0]["status"], json.loads(said[1]["body"])

    async def raise_from(self, sale_id: str, epoch: object) -> tuple[int, Any]:
        """Ask for the next epoch."""
        return await self.ask(f"/internal/sales/{sale_id}/epoch", json.dumps({"epoch": epoch}).encode())

    @staticmethod
    async def _no_health(*_: Any) -> None:
        raise AssertionError("not for the health application")


@pytest.fixture
def port(desk: Desk) -> Port:
    return Port(desk)


async def test_d2_the_epoch_is_raised_once_however_often_it_is_asked_for(desk: Desk, port: Port) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    answers = await asyncio.gather(*(port.raise_from(sale_id, 0) for _ in range(4)))
    assert sorted(status for status, _ in answers) == [200, 409, 409, 409]
    assert {body["epoch"] for _, body in answers} == {1}
    assert (await port.raise_from(sale_id, 1))[1]["epoch"] == 2
    status, body = await port.raise_from(sale_id, 1)
    assert (status, body["code"], body["epoch"]) == (409, "epoch_moved", 2)


async def test_v7_an_order_that_is_being_written_is_waited_for_and_a_later_one_writes_nothing(
    desk: Desk, port: Port
) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    async with desk.postgres.transaction() as writing:
        await writing.fetch(query("lock_sales"), [sale_id])
        raising = asyncio.create_task(port.raise_from(sale_id, 0))
        waits = "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE $1"
        while (await desk.fetch(waits, "%SET epoch = epoch + 1%"))[0]["n"] == 0:
            assert not raising.done()
            await asyncio.sleep(0.01)
    assert (await raising)[1]["epoch"] == 1
    old, new = order(sale_id, 1), order(sale_id, 1, epoch=1)
    assert words(await desk.decide(old)) == ["nothing"]
    assert await desk.verdict(old.ticket_id) is None
    assert words(await desk.decide(new)) == ["confirmed"]


async def test_a_change_of_an_older_epoch_does_not_take_the_new_one_back(desk: Desk, port: Port) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    await port.raise_from(sale_id, 0)
    await desk.know(sale(sale_id, version=2, stock=99))
    status, body = await port.ask(f"/internal/sales/{sale_id}/definition")
    assert (status, body["epoch"], body["version"]) == (200, 1, 1)
    assert body["sale"]["items"][0]["stock"] == 10


async def test_the_tickets_that_ended_come_in_pages_with_their_orders(desk: Desk, port: Port) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    bought = [order(sale_id, at, units=(2 * at - 1, 2 * at), slots=(1, 2)) for at in (1, 2, 3)]
    refused = order(sale_id, 4, units=(1,))
    await desk.decide(*bought, refused)
    declined = TicketDeclined(
        sale_id=sale_id,
        ticket_id=order(sale_id).ticket_id,
        sku="seat",
        buyer_id="eve",
        quantity=2,
        arrival=9,
        reason="payment_declined",
        at_ms=now_ms(),
    )
    await Tickets(desk.postgres).write([record(declined)])
    found: dict[str, Any] = {}
    cursor, pages = "", 0
    while True:
        _, page = await port.ask(f"/internal/sales/{sale_id}/tickets?limit=2{cursor}")
        found |= {each["ticket_id"]: each for each in page["tickets"]}
        pages += 1
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert pages == 3
    assert found.keys() == {*(each.ticket_id for each in (*bought, refused)), declined.ticket_id}
    one = found[bought[1].ticket_id]
    assert (one["outcome"], one["arrival"], one["quantity"]) == ("CONFIRMED", 2, 2)
    assert one["order"] == {"verdict": "confirmed", "units": [3, 4], "slots": [1, 2], "epoch": 0, "number": 2}
    other = found[refused.ticket_id]
    assert (other["outcome"], other["reason"], other["order"]["verdict"]) == ("RELEASED", "unit_taken", "failed")
    assert other["readmitted_as"] is None
    third = found[declined.ticket_id]
    assert (third["outcome"], third["reason"], third["order"]) == ("DECLINED", "payment_declined", None)


async def test_c2_the_list_of_sales_leaves_out_those_that_are_archived(desk: Desk, port: Port) -> None:
    running, closed, archived = a_sale_id(), a_sale_id(), a_sale_id()
    await desk.know(sale(running, state="ended"), sale(closed, state="closed"), sale(archived, state="archived"))
    found: dict[str, Any] = {}
    cursor = ""
    while True:
        _, page = await port.ask(f"/internal/sales?limit=1{cursor}")
        found |= {each["sale_id"]: each for each in page["sales"]}
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert {running, closed} <= found.keys()
    assert archived not in found
    assert (found[running]["epoch"], found[running]["version"], found[running]["state"]) == (0, 1, "ended")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/internal/sales/nowhere/definition", None, 404, "unknown_sale"),
        ("/internal/sales/nowhere/epoch", b'{"epoch": 0}', 404, "unknown_sale"),
        ("/internal/sales/nowhere/tickets", None, 404, "unknown_sale"),
        ("/internal/sales/nowhere/tickets?limit=0", None, 400, "invalid_query"),
        ("/internal/sales/nowhere/definition?limit=1", None, 400, "invalid_query"),
        ("/internal/sales?colour=red", None, 400, "invalid_query"),
        ("/internal/sales/nowhere/epoch", b" " * 2000, 413, "body_too_large"),
    ],
)
async def test_a_bad_question_is_a_problem(port: Port, path: str, body: bytes | None, status: int, code: str) -> None:
    found, said = await port.ask(path, body)
    assert (found, said["code"]) == (status, code)


async def test_a_bad_epoch_cursor_or_method_is_a_problem(desk: Desk, port: Port) -> None:
    sale_id = a_sale_id()
    await desk.know(sale(sale_id))
    for bad in (-1, 2**63, "0", None, 1.5):
        status, said = await port.raise_from(sale_id, bad)
        assert (status, said["code"]) == (400, "invalid_body"), bad
    status, said = await port.ask(f"/internal/sales/{sale_id}/tickets?cursor=x")
    assert (status, said["code"]) == (400, "invalid_query")
    for path, method in (("epoch", "GET"), ("definition", "POST"), ("tickets", "DELETE")):
        status, said = await port.ask(f"/internal/sales/{sale_id}/{path}", method=method)
        assert (status, said["code"]) == (405, "method_not_allowed")
