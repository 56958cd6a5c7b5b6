"""The refusal that is told before parsing: only where it is due, only to what it fits, and well formed."""

import json
from typing import Any

import pytest

from fairline.runtime.metrics import Metrics
from gateway.door import Door

JOIN = b"POST /sales/surge/tickets HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"
STATUS = b"GET /sales/surge/tickets/1 HTTP/1.1\r\nhost: x\r\n\r\n"


def a_door(*, shared: bool = False, metrics: Metrics | None = None) -> Door:
    return Door(
        4,
        known=lambda sale_id: sale_id in {"surge", "calm"},
        new_id=lambda: "made-1",
        shared=shared,
        metrics=metrics or Metrics(),
    )


def a_scope(path: str) -> dict[str, Any]:
    return {"path": path, "state": {}}


def a_full_door(*, shared: bool = False, metrics: Metrics | None = None) -> Door:
    door = a_door(shared=shared, metrics=metrics)
    for _ in range(2):
        door.started(a_scope("/sales/surge/tickets"))
    return door


@pytest.mark.parametrize("call", [JOIN, STATUS, b"DELETE /sales/surge/tickets/1 HTTP/1.1\r\nhost: x\r\n\r\n"])
def test_what_is_too_much_of_one_sale_is_refused_and_another_sale_is_served(call: bytes) -> None:
    assert a_door().refusal(call) is None
    door = a_full_door()
    assert door.refusal(call) is not None
    assert door.refusal(call.replace(b"surge", b"calm")) is None


def test_the_refusal_is_a_whole_answer_with_a_problem_and_a_request_id() -> None:
    head, _, body = (a_full_door().refusal(JOIN) or b"").partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    assert status == b"HTTP/1.1 503 Service Unavailable"
    assert int(headers[b"content-length"]) == len(body)
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"x-request-id"] == b"made-1"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert int(headers[b"retry-after"]) in {1, 2, 3}
    said = json.loads(body)
    assert (said["code"], said["status"], said["instance"]) == ("overloaded", 503, "urn:fairline:request:made-1")


def test_a_clients_own_request_id_is_kept() -> None:
    said = a_full_door().refusal(STATUS.replace(b"host: x", b"host: x\r\nX-Request-Id: mine.7"))
    assert said is not None
    assert b"\r\nx-request-id: mine.7\r\n" in said
    assert json.loads(said.partition(b"\r\n\r\n")[2])["instance"] == "urn:fairline:request:mine.7"


@pytest.mark.parametrize(
    "data",
    [
        JOIN[:-1],
        JOIN + STATUS,
        JOIN.partition(b"\r\n\r\n")[0],
        JOIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        JOIN.replace(b"content-length: 2", b"Transfer-Encoding: chunked"),
        JOIN.replace(b"host: x", b"Expect: 100-continue"),
        JOIN.replace(b"host: x", b"Connection: close"),
        JOIN.replace(b"/sales/surge", b"/sales/SURGE"),
        JOIN.replace(b"POST /sales", b"POST /admin/sales"),
        b"",
        b"\r\n\r\n",
    ],
)
def test_what_is_not_exactly_one_plain_call_is_left_to_be_parsed(data: bytes) -> None:
    assert a_full_door().refusal(data) is None


@pytest.mark.parametrize(
    "said",
    [
        b"Content-Length: 1000000",
        b"Content-Length:\t2",
        b"Content-Length: 2 ",
        b"Content-Length: 2 , 2",
        b"Content-Length: 0\r\nContent-Length: 2",
        b"x: y\nContent-Length: 2",
        b"Content-Length : 2",
        b"Transfer-Encoding : chunked",
        b"x: y\nTransfer-Encoding: chunked",
    ],
)
def test_a_head_whose_body_is_still_to_come_is_never_taken_for_a_whole_call(said: bytes) -> None:
    head = JOIN.replace(b"content-length: 2", said).removesuffix(b"{}")
    assert a_full_door().refusal(head) is None, "the body would be taken for the next request of this connection"


def test_a_page_of_another_site_gets_an_answer_that_it_may_read() -> None:
    from_a_page = JOIN.replace(b"host: x", b"host: x\r\nOrigin: https://shop.example")
    assert a_full_door(shared=True).refusal(from_a_page) is None
    assert a_full_door(shared=False).refusal(from_a_page) is not None, "where none may call, there is nothing to read"


def test_invented_sales_share_one_share_and_operators_have_their_own() -> None:
    door = a_door()
    assert door.party("/sales/surge/tickets") == "surge"
    assert door.party("/sales/invented/tickets") == door.party("/sales/other") == door.party("/room/x") == ""
    assert door.party("/") == door.party("") == door.party("/sales") == ""
    assert door.party("/admin/sales/surge") == door.party("/admin/keys") == "/admin"


def test_a_flood_of_invented_sales_is_refused_before_parsing_too() -> None:
    door = a_door()
    for number in range(2):
        door.started(a_scope(f"/sales/invented-{number}"))
    assert door.refusal(JOIN.replace(b"surge", b"invented-3")) is not None
    assert door.refusal(JOIN) is None


def test_each_place_is_given_back_once() -> None:
    door = a_full_door()
    late = a_scope("/sales/surge/tickets")
    door.started(late)
    assert door.enter(late) is None, "there was no place when it was parsed, and there is none now"
    door.leave("surge")
    assert door.enter(late) == "surge"
    early = a_scope("/sales/calm")
    door.started(early)
    assert door.enter(early) == "calm"
    for party in ("surge", "surge", "calm"):
        door.leave(party)
    assert door.refusal(JOIN) is None


def test_health_takes_no_place() -> None:
    door = a_full_door()
    door.started(a_scope("/readyz"))
    door.leave("surge")
    door.leave("surge")
    with pytest.raises(KeyError):
        door.leave("")


def test_the_metrics_tell_of_it() -> None:
    metrics = Metrics()
    a_full_door(metrics=metrics).refusal(JOIN)
    assert metrics.registry.get_sample_value("fairline_shed_total") == 1
    assert metrics.registry.get_sample_value("fairline_requests_under_way") == 2
    labels = {"route": "(door)", "method": "POST", "status": "503"}
    assert metrics.registry.get_sample_value("fairline_requests_total", labels) == 1
