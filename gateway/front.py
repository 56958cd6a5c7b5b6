"""The outermost ASGI application: health, request ids, security headers, metrics, the last net for errors.

In front of Litestar because each of these is for every answer, also for those that Litestar never sees, and because
as one plain callable they cost a join little.
"""

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fairline.runtime import logs
from fairline.runtime.health import Health
from fairline.runtime.metrics import Metrics
from gateway.bodies import header
from gateway.problems import Problem

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ELSEWHERE: Final = "(none)"  # the route of an address that is none: names from outside must not become labels
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# For whatever is no page: nothing in it may run or be framed.
_GUARDS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
_POLICY: Final = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")

Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Front:
    """Every request comes through here."""

    def __init__(self, app: App, health: Health, metrics: Metrics) -> None:
        self._app = app
        self._health = health
        self._metrics = metrics
        self._name = secrets.token_hex(6)  # of this start; with a count behind it, a request's id
        self._count = itertools.count(1)

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["path"] in Health.PATHS and scope["method"] == "GET":
            await self._health(scope, receive, send)
            return
        started = time.perf_counter()
        said = header(scope, b"x-request-id")
        request_id = said if said and _REQUEST_ID.fullmatch(said) else f"{self._name}-{next(self._count):x}"
        answered = 0

        async def send_guarded(message: Any) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                headers = [*message["headers"], *_GUARDS, (b"x-request-id", request_id.encode())]
                if not any(name == b"content-security-policy" for name, _ in headers):
                    headers.append(_POLICY)
                message = {**message, "headers": headers}
            await send(message)

        method = scope["method"]
        inner = {**scope, "method": "GET" if method == "HEAD" else method}  # the server drops the body of a HEAD
        inner["state"] = {**scope.get("state", {}), "request_id": request_id}
        try:
            if method in METHODS:
                await self._app(inner, receive, send_guarded)
            else:
                await _refuse(Problem("method_not_allowed"), request_id, send_guarded)
        except Exception:
            if answered:
                raise
            logs.get(__name__).exception("failed to answer", request_id=request_id)
            await _refuse(Problem("internal"), request_id, send_guarded)
        finally:
            if answered:
                route = str(inner.get("path_template") or _ELSEWHERE)
                self._metrics.requests.labels(route, method if method in METHODS else "other", str(answered)).inc()
                self._metrics.request_s.labels(route).observe(time.perf_counter() - started)


async def _refuse(problem: Problem, request_id: str, send: Send) -> None:
    status, headers, body = problem.answer(request_id)
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
