"""The outermost ASGI application: health, request ids, security headers, metrics, the last net for errors.

In front of Litestar because each of these is for every answer, also for those that Litestar never sees, and because
as one plain callable they cost a join little. Joins, the hot path, go from here straight to ``gateway.joins``: through
Litestar each takes twice the processor time (docs/http.md has the figures).
"""

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from prometheus_client import Counter, Histogram

from fairline.runtime import logs
from fairline.runtime.health import Health
from fairline.runtime.metrics import Metrics
from gateway.bodies import header
from gateway.cors import Cors
from gateway.door import REQUEST_ID, ROUTE, Door
from gateway.joins import Joins
from gateway.problems import GUARDS, POLICY, Problem

_ELSEWHERE: Final = "(none)"  # the route of an address that is none: names from outside must not become labels
_JOIN_ROUTE: Final = "/sales/{sale_id}/tickets"
_JOIN: Final = re.compile(r"/sales/([^/]+)/tickets")
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# While this copy leaves: the client goes to another with its next request, instead of meeting a closed connection.
_LAST: Final = (b"connection", b"close")
_CUT_OFF: Final = "This gateway ends and could not wait for the outcome. Ask again: another one answers."

Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Front:
    """Every request comes through here."""

    def __init__(
        self,
        app: App,
        joins: Joins,
        health: Health,
        *,
        door: Door,
        new_id: Callable[[], str],
        cors: Cors,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._joins = joins
        self._health = health
        self._door = door
        self._new_id = new_id
        self._cors = cors
        self._metrics = metrics
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if scope["path"] in Health.PATHS and scope["method"] in {"GET", "HEAD"}:
            await self._health(scope, receive, send)
            return
        started = time.perf_counter()
        said = header(scope, b"x-request-id")
        request_id = said if said and REQUEST_ID.fullmatch(said) else self._new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        added = [*GUARDS, (b"x-request-id", request_id.encode()), *self._cors.headers(scope)]
        status = 0

        async def send_guarded(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], *added]
                if self._health.draining:
                    headers.append(_LAST)
                if not any(name == b"content-security-policy" for name, _ in headers):
                    headers.append(POLICY)
                message = {**message, "headers": headers}
            await send(message)

        route = _ELSEWHERE
        try:
            route = await self._enter(scope, receive, send_guarded)
        except (Exception, asyncio.CancelledError) as error:
            if status:
                raise
            await _refuse(_problem(error, request_id), request_id, send_guarded)
        finally:
            if status:
                self._count_request(route, scope["method"], status, time.perf_counter() - started)

    async def _enter(self, scope: Any, receive: Any, send: Send) -> str:
        """Answer unless too much is under way; the route."""
        party = self._door.enter(scope)
        if party is None:
            await _refuse(Problem("overloaded"), scope["state"]["request_id"], send)
            return ROUTE
        try:
            return await self._answer(scope, receive, send)
        finally:
            self._door.leave(party)

    async def _answer(self, scope: Any, receive: Any, send: Send) -> str:
        """Answer, and say by which route."""
        method = scope["method"]
        if method == "POST" and (join := _JOIN.fullmatch(scope["path"])):
            await self._joins.serve(join[1], scope, receive, send)
            return _JOIN_ROUTE
        preflight = self._cors.preflight(scope)
        if preflight is not None:
            await send({"type": "http.response.start", "status": 204, "headers": preflight})
            await send({"type": "http.response.body", "body": b""})
        elif method not in METHODS:
            await _refuse(Problem("method_not_allowed"), scope["state"]["request_id"], send)
        else:
            # The server drops the body of an answer to HEAD.
            inner = {**scope, "method": "GET"} if method == "HEAD" else scope
            await self._app(inner, receive, send)
            return inner.get("path_template") or _ELSEWHERE
        return _ELSEWHERE

    def _count_request(self, route: str, method: str, status: int, took_s: float) -> None:
        label = (route, method if method in METHODS else "other", status)
        children = self._children.get(label)
        if children is None:
            counted = self._metrics.requests.labels(route, label[1], str(status))
            children = self._children[label] = (counted, self._metrics.request_s.labels(route))
        children[0].inc()
        children[1].observe(took_s)


def request_ids() -> Callable[[], str]:
    """Ids for requests that bring none: a name of this start, and a count."""
    name, count = secrets.token_hex(6), itertools.count(1)
    return lambda: f"{name}-{next(count):x}"


def _problem(error: BaseException, request_id: str) -> Problem:
    """What is told of an error that nobody caught, or of the end of the process, which alone cancels a request."""
    if isinstance(error, asyncio.CancelledError):
        logs.get(__name__).warning("cut off", request_id=request_id)
        return Problem("unavailable", _CUT_OFF)
    logs.get(__name__).error("failed to answer", request_id=request_id, exc_info=error)
    return Problem("internal")


async def _refuse(problem: Problem, request_id: str, send: Send) -> None:
    status, headers, body = problem.answer(request_id)
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
