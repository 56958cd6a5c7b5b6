"""How many requests are under way, and the refusal of one that is too many: told before the request is even parsed.

A gateway that is asked for more than it can do has to refuse the rest for next to nothing, or refusing takes the time
that serving needs. So a buyer's call that came in one piece is refused from its first bytes, by an answer that is ready
but for its ids: a fifth of what a join costs (``python -m loadtest.overload``). One that came in pieces, or that needs
an answer of its own (another site's page), is refused by the front, which costs more and says the same.

Each sale has its share of the places (``gateway.shares``), and so has all that is no sale's: pages, operators. Their
number is fixed on purpose: fewer places while joins were slow made a slow Redis slower still, as it then had less to do
at a time (measured: a sixth of the goodput at twice the peak).
"""

import re
from collections.abc import Callable
from typing import Any, Final

from fairline.runtime.health import Health
from fairline.runtime.metrics import Metrics
from gateway.problems import GUARDS, KINDS, POLICY, Problem, jittered
from gateway.shares import Shares

OTHERS: Final = ""  # the party of what is no known sale's: invented ids must not take shares
OPERATORS: Final = "/admin"
ROUTE: Final = "(door)"  # of the metrics of requests
_PARTY: Final = "party"

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CALL: Final = re.compile(rb"(GET|POST|DELETE) /sales/([a-z0-9-]{1,64})[^ ]* HTTP/1\.1\r\n")
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\ncontent-length: *(\d{1,6})\r\n")
_SAID_ID: Final = re.compile(rb"\r\nx-request-id: *([A-Za-z0-9._-]{1,64})\r\n", re.IGNORECASE)
# Whoever sends one of these needs more than the ready answer.
_SPECIAL: Final = re.compile(rb"\n(?:transfer-encoding|expect|connection|upgrade)")


class Door:
    """Of one gateway. ``known`` says whether there is such a sale, ``shared`` whether other sites' pages may call."""

    def __init__(
        self,
        most: int,
        *,
        known: Callable[[str], bool],
        new_id: Callable[[], str],
        shared: bool,
        metrics: Metrics,
    ) -> None:
        self._shares = Shares(most)
        self._known = known
        self._new_id = new_id
        self._shared = shared
        self._shed = metrics.shed
        self._requests = {
            method: metrics.requests.labels(ROUTE, method.decode(), "503") for method in (b"GET", b"POST", b"DELETE")
        }
        metrics.under_way.set_function(lambda: self._shares.taken)

    def party(self, path: str) -> str:
        """Whose share a call of this path is counted in."""
        _, first, *rest = (*path.split("/", 3), "", "")
        if first == "sales":
            return rest[0] if self._known(rest[0]) else OTHERS
        return OPERATORS if first == "admin" else OTHERS

    # What the connection asks (fairline.runtime.wire_limits.Door)

    def refusal(self, data: bytes) -> bytes | None:
        """The answer to one whole request that is one too many; nothing for one that is to be parsed."""
        if not self._shares.crowded:
            return None
        call = _CALL.match(data)
        if call is None:
            return None
        sale_id = call[2].decode()
        if not self._shares.full(sale_id if self._known(sale_id) else OTHERS):
            return None
        end = data.find(_END)
        head = data[: end + 2].lower()
        if end < 0 or _SPECIAL.search(head) or (self._shared and b"\r\norigin:" in head):
            return None
        length = _LENGTH.search(head)
        # A length that is spelled otherwise is for the parser, or the body to come would be taken for a request.
        plain = head.count(b"content-length") == (length is not None)
        if not plain or end + len(_END) + (int(length[1]) if length else 0) != len(data):
            return None
        self._shed.inc()
        self._requests[call[1]].inc()
        said = _SAID_ID.search(data, 0, end + 2)
        return _answer(said[1] if said else self._new_id().encode())

    def started(self, scope: Any) -> None:
        """A request was parsed and is going to be served: it takes its place, if there is one."""
        if scope["path"] in Health.PATHS:  # whoever watches over us is served at any rate
            return
        party = self.party(scope["path"])
        if self._shares.enter(party):
            scope.setdefault("state", {})[_PARTY] = party

    # What the front asks

    def enter(self, scope: Any) -> str | None:
        """The party in whose share this request is counted now; nothing where it has to be refused."""
        if (said := scope["state"].get(_PARTY)) is not None:
            return str(said)
        party = self.party(scope["path"])
        if self._shares.enter(party):
            return party
        self._shed.inc()
        return None

    def leave(self, party: str) -> None:
        """It was answered, or its client has gone and nothing is done for it any more."""
        self._shares.leave(party)


def _ready() -> tuple[bytes, int]:
    """The refusal as a form for seconds, request id, length and request id; and how long its body is without the id."""
    status, headers, body = Problem("overloaded").answer("%b")
    fixed = [(name, value) for name, value in headers if name != b"retry-after"]
    lines = [
        b"HTTP/1.1 %d Service Unavailable" % status,
        *(name + b": " + value for name, value in (*fixed, *GUARDS, POLICY)),
        b"retry-after: %d",
        b"x-request-id: %b",
        b"content-length: %d",
    ]
    return b"\r\n".join(lines) + _END + body, len(body) - len(b"%b")


_RETRY_S: Final = KINDS["overloaded"].retry_s or 1
_FORM, _LEAST_LENGTH = _ready()


def _answer(request_id: bytes) -> bytes:
    return _FORM % (jittered(_RETRY_S), request_id, _LEAST_LENGTH + len(request_id), request_id)
