"""The OpenAPI 3.1 document, written from the very routes that serve: each carries a ``Doc``.

Not Litestar's own generator: that one describes bodies it decodes itself and error answers of its own, while ours are
decoded strictly with a code per cause. A contract test compares document and routes.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec
from litestar import Litestar
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from fairline import ids
from gateway.problems import KINDS
from gateway.schemas import DeadLetterId, KeyName, ProblemAnswer

OPT: Final = "doc"
_PATH_TYPES: Final[Mapping[str, Any]] = {
    "sale_id": ids.SaleId,
    "ticket_id": ids.TicketId,
    "sku": ids.Sku,
    "dead_letter_id": DeadLetterId,
    "name": KeyName,
    "path": str,
}
_REF: Final = "#/components/schemas/{name}"

Who = Literal["anybody", "ticket", "viewer", "operator", "admin"]


class Doc(msgspec.Struct, frozen=True, kw_only=True):
    """What a route does, takes and gives. ``answers``: status -> type (or a media type where it is no JSON)."""

    summary: str
    who: Who
    answers: dict[int, tuple[type | str | None, str]]
    problems: tuple[str, ...] = ()
    body: type | None = None
    body_required: bool = True
    query: Mapping[str, tuple[Any, str]] = {}
    headers: dict[str, str] = {}
    tag: str = "buyers"


def operations(app: Litestar) -> Iterable[tuple[str, str, BaseRouteHandler, Doc | None]]:
    """(path, method, handler, doc) of everything that the application serves, OPTIONS left out."""
    for route in app.routes:
        handlers = getattr(route, "route_handlers", None) or [route.route_handler]  # type: ignore[union-attr]
        for handler in handlers:
            doc: Doc | None = handler.opt.get(OPT)
            if isinstance(handler, HTTPRouteHandler):
                for method in sorted(handler.http_methods - {"OPTIONS"}):
                    yield route.path_format, method.lower(), handler, doc


def document(app: Litestar, *, version: str) -> dict[str, Any]:
    """The whole document as plain JSON values."""
    known = [(path, method, handler, doc) for path, method, handler, doc in operations(app) if doc is not None]
    types: list[Any] = [ProblemAnswer]
    for _, _, _, doc in known:
        types.extend(kind for kind, _ in doc.answers.values() if isinstance(kind, type))
        types.extend([doc.body] if doc.body else [])
    _, components = msgspec.json.schema_components(types, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for path, method, handler, doc in known:
        paths.setdefault(path, {})[method] = _operation(path, handler, doc)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairline",
            "version": version,
            "description": "Waiting rooms and first-come-first-served sales. Refusals are application/problem+json "
            "with a stable `code`; unknown members of requests are refused, those of answers are to be ignored.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "ticket": {"type": "http", "scheme": "bearer", "description": "the ticket's token"},
                "operator": {"type": "http", "scheme": "bearer", "description": "an operator's key"},
            },
        },
    }


def _operation(path: str, handler: BaseRouteHandler, doc: Doc) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": handler.name or handler.handler_name,
        "summary": doc.summary,
        "tags": [doc.tag],
        "security": [] if doc.who == "anybody" else [{"ticket" if doc.who == "ticket" else "operator": []}],
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": _schema(_PATH_TYPES[name])}
                for name in re.findall(r"\{(\w+)\}", path)
            ),
            *(
                {"name": name, "in": "query", "description": words, "schema": _schema(kind)}
                for name, (kind, words) in doc.query.items()
            ),
            *(
                {"name": name, "in": "header", "description": words, "schema": {"type": "string"}}
                for name, words in doc.headers.items()
            ),
        ],
        "responses": {},
    }
    if doc.who not in ("anybody", "ticket"):
        operation["description"] = f"Needs the role {doc.who}."
    if doc.body is not None:
        operation["requestBody"] = {
            "required": doc.body_required,
            "content": {"application/json": {"schema": _schema(doc.body)}},
        }
    responses: dict[str, Any] = operation["responses"]
    for status, (kind, words) in doc.answers.items():
        responses[str(status)] = {"description": words}
        if isinstance(kind, str):
            responses[str(status)]["content"] = {kind: {}}
        elif kind is not None:
            responses[str(status)]["content"] = {"application/json": {"schema": _schema(kind)}}
    for status, codes in _by_status(doc).items():
        responses[str(status)] = _refusal(codes)
    return operation


def _by_status(doc: Doc) -> dict[int, list[str]]:
    """The codes of a route by status; what each kind of caller or body can meet is added here, once for all."""
    codes = [*doc.problems, "internal"]
    if doc.body is not None:
        codes += ["malformed_body", "missing_field", "unknown_field", "invalid_field", "slow_body", "body_too_large"]
        codes += ["wrong_content_type"]
    if doc.who == "ticket":
        codes += ["token_required", "bad_token"]
    elif doc.who != "anybody":
        codes += ["key_required", "bad_key", "not_allowed", "unavailable"]
    found: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        found.setdefault(KINDS[code].status, []).append(code)
    return found


def _refusal(codes: list[str]) -> dict[str, Any]:
    refusal: dict[str, Any] = {
        "description": " ".join(f"`{code}`: {KINDS[code].detail}" for code in codes),
        "content": {
            "application/problem+json": {
                "schema": {
                    "allOf": [_schema(ProblemAnswer)],
                    "properties": {"code": {"enum": codes}},
                }
            }
        },
    }
    if any(KINDS[code].retry_s is not None for code in codes):
        refusal["headers"] = {
            "Retry-After": {"description": "whole seconds, jittered", "schema": {"type": "integer", "minimum": 1}}
        }
    return refusal


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    found: dict[str, Any] = schema
    return found
