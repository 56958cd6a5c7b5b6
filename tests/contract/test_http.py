"""The HTTP contract: document, routes, catalogue of codes and page say the same."""

import gzip
import hashlib
import re
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from fairline.store.client import connect
from gateway.app import Gateway
from gateway.openapi import OPT
from gateway.openapi import operations as routes
from gateway.problems import KINDS
from tests.support.gateway import settings_of
from tests.support.http_reference import NOWHERE, PAGE, codes_of, document, operations, written
from tests.support.openapi import Contract

DOCUMENT = document()
OPERATIONS = {f"{method} {path}": operation for path, method, operation in operations(DOCUMENT)}
# What no operation may promise: it is answered before there is one, or not used yet.
WITHOUT_OPERATION = {"not_found", "method_not_allowed", "bad_request"}


def test_every_route_is_in_the_document() -> None:
    gateway = Gateway(settings_of(NOWHERE, 1), connect(NOWHERE, name="nobody"))
    found = {f"{method.upper()} {path}" for path, method, handler, _ in routes(gateway.litestar)}
    assert found == set(OPERATIONS)
    assert all(handler.opt.get(OPT) for _, _, handler, _ in routes(gateway.litestar))


def test_the_calls_of_the_design_are_there() -> None:
    buyers = {
        "GET /sales/{sale_id}",
        "POST /sales/{sale_id}/tickets",
        "GET /sales/{sale_id}/tickets/{ticket_id}",
        "DELETE /sales/{sale_id}/tickets/{ticket_id}",
        "GET /room/{sale_id}",
        "GET /console",
    }
    sale = "/admin/sales/{sale_id}"
    actions = {f"POST {sale}/{action}" for action in ("open", "pause", "resume", "end")}
    operators = {
        "POST /admin/sales",
        "GET /admin/sales",
        f"GET {sale}",
        f"PATCH {sale}",
        f"PUT {sale}/items/{{sku}}/stock",
        f"GET {sale}/stats",
        f"GET {sale}/history",
        "POST /admin/keys",
        "GET /admin/keys",
        "DELETE /admin/keys/{name}",
    }
    assert buyers | actions | operators <= set(OPERATIONS)


def test_every_name_of_an_operation_is_its_own() -> None:
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)


def test_every_code_is_answered_by_some_operation() -> None:
    found = {code for operation in OPERATIONS.values() for code in codes_of(operation)}
    assert found | WITHOUT_OPERATION == set(KINDS)


@pytest.mark.parametrize("call", OPERATIONS)
def test_codes_stand_under_their_status(call: str) -> None:
    for status, answer in OPERATIONS[call]["responses"].items():
        schema = answer.get("content", {}).get("application/problem+json", {}).get("schema")
        if schema is not None:
            codes = schema["properties"]["code"]["enum"]
            assert {KINDS[code].status for code in codes} == {int(status)}
            waits = any(KINDS[code].retry_s is not None for code in codes)
            assert waits == ("Retry-After" in answer.get("headers", {}))


@pytest.mark.parametrize("call", [call for call in OPERATIONS if " /admin/" in call])
def test_operators_calls_need_a_key(call: str) -> None:
    assert OPERATIONS[call]["security"] == [{"operator": []}]
    assert {"key_required", "bad_key", "not_allowed"} <= set(codes_of(OPERATIONS[call]))


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(DOCUMENT["components"]["schemas"][name])


def test_every_reference_leads_somewhere() -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*(references(each) for each in value.values()))
        return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()

    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert references(DOCUMENT) <= known


def test_requests_refuse_unknown_members_and_answers_allow_them() -> None:
    for call, operation in OPERATIONS.items():
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        if body:
            schema = DOCUMENT["components"]["schemas"][body["$ref"].rpartition("/")[2]]
            assert schema["additionalProperties"] is False, call
    assert "additionalProperties" not in DOCUMENT["components"]["schemas"]["TicketAnswer"]


def test_the_page_has_what_the_code_has() -> None:
    page = PAGE.read_text()
    assert page == written(page), "run: python -m tests.support.http_reference"


def test_what_is_vendored_is_what_its_note_says() -> None:
    vendor = files("gateway") / "static" / "vendor"
    noted = dict(re.findall(r"\| `([\w.-]+)` \|.*`([0-9a-f]{64})` \|", (vendor / "README.md").read_text()))
    scripts = {each.name: each for each in vendor.iterdir() if each.name.endswith((".js", ".css"))}
    assert noted == {name: hashlib.sha256(each.read_bytes()).hexdigest() for name, each in scripts.items()}


def test_the_room_is_small() -> None:
    static = files("gateway") / "static"
    packed = sum(len(gzip.compress((static / name).read_bytes())) for name in ("room.html", "room.css", "room.js"))
    assert packed < 10 * 1024


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"sale_id": "s"}),
        (409, {"code": "sold_out"}),
        (418, {}),
    ],
)
def test_the_checker_of_answers_rejects_wrong_ones(status: int, body: dict[str, Any]) -> None:
    kind = "application/json" if status == 200 else "application/problem+json"
    with pytest.raises(AssertionError):
        Contract(DOCUMENT).check("POST", "/sales/s/tickets", status, kind, body)


def test_the_checker_of_answers_rejects_a_code_of_another_call() -> None:
    problem = dict.fromkeys(("type", "title", "detail", "instance"), "x") | {"status": 409, "code": "sold_out"}
    Contract(DOCUMENT).check("POST", "/sales/s/tickets", 409, "application/problem+json", problem)
    with pytest.raises(AssertionError, match="sold_out"):
        Contract(DOCUMENT).check("POST", "/admin/sales", 409, "application/problem+json", problem)
