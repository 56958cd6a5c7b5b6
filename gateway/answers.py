"""Answers as Litestar sends them, and how its errors and ours become problems."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ExceptionHandlersMap

from fairline.errors import FairlineError
from fairline.runtime import logs
from gateway.bodies import ClientGoneError
from gateway.problems import Problem, jittered, of_error

_encode: Final = msgspec.json.Encoder().encode
_CLIENT_ERROR: Final = 400
_SERVER_ERROR: Final = 500

AnyRequest = Request[Any, Any, Any]


def answer(
    value: msgspec.Struct | bytes,
    *,
    status: int = 200,
    retry_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response[bytes]:
    """JSON that nobody may keep, unless ``headers`` say otherwise."""
    said = {"cache-control": "no-store", **(headers or {})}
    if retry_s is not None:
        said["retry-after"] = str(jittered(retry_s))
    body = value if isinstance(value, bytes) else _encode(value)
    return Response(body, status_code=status, headers=said, media_type="application/json")


def request_id_of(request: AnyRequest) -> str:
    """As the front gave it."""
    return str(request.scope["state"].get("request_id", ""))


def _refuse(request: AnyRequest, error: Exception) -> Response[bytes]:
    problem = _problem(error)
    if problem.kind.status >= _SERVER_ERROR and problem.code == "internal":
        logs.get(__name__).error("failed to answer", request_id=request_id_of(request), exc_info=error)
    status, headers, body = problem.answer(request_id_of(request))
    said = {name.decode(): value.decode() for name, value in headers}
    return Response(body, status_code=status, headers=said, media_type=said.pop("content-type"))


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, FairlineError):
        return of_error(error) or Problem("internal")
    if isinstance(error, NotFoundException):
        return Problem("not_found")
    if isinstance(error, MethodNotAllowedException):
        problem = Problem("method_not_allowed")
        allowed = (error.headers or {}).get("allow", "")
        problem.headers.append((b"allow", allowed.encode()))
        return problem
    refused = isinstance(error, HTTPException) and _CLIENT_ERROR <= error.status_code < _SERVER_ERROR
    return Problem("bad_request" if refused or isinstance(error, ClientGoneError) else "internal")


EXCEPTION_HANDLERS: Final[ExceptionHandlersMap] = {Exception: _refuse}
