"""What is decided before a client is known."""

import http
import re

import msgspec
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.typing import Origin, Subprotocol

from fairline.errors import TokenError
from notifier import handshake

TICKET = "0b1c2d3e-4f50-4161-8273-8495a6b7c8d9"


def test_the_path_names_the_sale_and_the_ticket() -> None:
    assert handshake.place_of(f"/sales/spring-24/tickets/{TICKET}") == ("spring-24", TICKET)
    assert handshake.place_of(f"/sales/spring-24/tickets/{TICKET}?from=page") == ("spring-24", TICKET)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        f"/sales//tickets/{TICKET}",
        f"/sales/Spring/tickets/{TICKET}",
        f"/sales/a%20b/tickets/{TICKET}",
        f"/sales/a/b/tickets/{TICKET}",
        f"/sales/a/tickets/{TICKET.upper()}",
        f"/sales/a/tickets/{TICKET}/",
        f"/sales/a/tickets/{TICKET}\n",
        f"/x/sales/a/tickets/{TICKET}",
        "/sales/a/tickets/" + "0" * 10_000,
    ],
)
def test_any_other_path_names_nothing(path: str) -> None:
    assert handshake.place_of(path) is None


def test_our_subprotocol_is_picked_and_the_rest_is_the_token() -> None:
    ours = Subprotocol("fairline.v1")
    assert handshake.select([ours, Subprotocol("a.b.c")]) == (ours, ("a.b.c",))
    assert handshake.select([Subprotocol("a.b.c"), ours]) == (ours, ("a.b.c",))
    assert handshake.select([ours]) == (ours, ())
    assert handshake.select([Subprotocol("chat"), Subprotocol("a.b.c")]) == (None, ())
    assert handshake.select([]) == (None, ())


def test_a_hello_gives_its_token_and_later_types_give_nothing() -> None:
    assert handshake.hello_of('{"type": "hello", "token": "a.b.c", "more": [1]}') == "a.b.c"
    assert handshake.hello_of('{"type": "later", "token": 7}') is None


@pytest.mark.parametrize("message", ['{"type":"hello"}', '{"type":"hello","token":1}'])
def test_a_hello_without_a_token_is_a_bad_token(message: str) -> None:
    with pytest.raises(TokenError):
        handshake.hello_of(message)


@pytest.mark.parametrize("message", ["", "{", "[]", "7", '{"type":null}', '{"type":"hello","token":"x"} x', b"{}"])
def test_what_is_no_frame_raises(message: str | bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        handshake.hello_of(message)


def test_origins_are_a_list_and_no_origin_is_no_foreign_one() -> None:
    assert handshake.origins_of("") is None
    assert handshake.origins_of(" https://a.example ,https://b.example,") == [
        None,
        Origin("https://a.example"),
        Origin("https://b.example"),
    ]


def test_a_problem_is_json_with_a_stable_code() -> None:
    answer = handshake.problem(http.HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", "Too many.", Retry_After="3")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "3")
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert msgspec.json.decode(answer.body) == {
        "title": "Service Unavailable",
        "status": 503,
        "code": "overloaded",
        "detail": "Too many.",
    }


@pytest.mark.parametrize(
    ("upgrade", "wants"), [("websocket", True), ("WebSocket", True), ("h2c", False), (None, False)]
)
def test_only_an_upgrade_to_websocket_is_one(upgrade: str | None, wants: bool) -> None:  # noqa: FBT001 - a table
    headers = Headers() if upgrade is None else Headers(Upgrade=upgrade)
    assert handshake.wants_websocket(Request("/", headers)) is wants


def test_the_pattern_of_a_path_cannot_be_made_to_search_for_long() -> None:
    assert re.fullmatch(handshake._PATH, "/sales/" + "a/" * 50_000) is None
