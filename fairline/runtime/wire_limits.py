"""What one HTTP connection may cost: bytes of a head, time for it, requests that wait, time to take the answers.

uvicorn bounds none of them: a client that sends headers for ever, or nothing that is a request, or that takes no
answer, would keep memory, a socket and a place for as long as it likes. Beyond a limit the connection is told why, in
a problem document, and closed; without a word where that would be taken for the answer to an earlier request.

A ``Door`` may refuse a whole request before it is parsed; its connection stays.
"""

import asyncio
import random
from typing import Any, ClassVar, Final, Protocol

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 32 * 1024  # checked after each read of the socket, so at most one read more is kept
HEAD_S: Final = 10.0
ANSWER_S: Final = 60.0  # for the largest file of ours, on a slow line
MOST_PIPELINED: Final = 100  # requests that wait on one connection; each costs a hundred times its bytes
MAX_CONNECTIONS: Final = 10_000  # half of the open files that a process commonly may have
RETRY_S: Final = (2, 5)  # spread, so that those refused do not come back at one instant

_TITLES: Final = {
    400: "Malformed request",
    408: "Slow request",
    431: "Headers too large",
    503: "Overloaded",
}


class Door(Protocol):
    """Who says how many requests may be served at a time."""

    def refusal(self, data: bytes) -> bytes | None:
        """The whole answer to the whole request that ``data`` is; nothing where that is to be parsed."""

    def started(self, scope: Any) -> None:
        """A request is going to be served."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the limits; subclass it to set others."""

    max_head_bytes = MAX_HEAD_BYTES
    head_s = HEAD_S
    answer_s = ANSWER_S
    max_connections = MAX_CONNECTIONS
    door: ClassVar[Door | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._between = True  # requests: nothing of the next one has come
        self._head_bytes: int | None = 0  # None once the head is complete
        self._patience: asyncio.TimerHandle | None = None  # with a head
        self._ended = False  # a request, in this read of the socket
        self._bodied = False  # something of a body came in it
        self._beside_bytes = 0  # of a body: sizes of chunks and trailers since its last byte
        self._taking: asyncio.TimerHandle | None = None  # for the client to take what was written
        self._served: Any = None  # the cycle under way; ``cycle`` is the last that was parsed

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection; refused at once where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(503, "overloaded", f"There are {self.max_connections} connections already.")
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Over."""
        self._stop_waiting()
        self._stop_taking()
        self._unset_keepalive_if_required()  # uvicorn leaves it, and so all of this, where the client broke it off
        if self._served is not None:  # or its answer would be written all the same, which uvloop calls an error
            self._served.disconnected = True
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not keep up with its answers."""
        super().pause_writing()
        self._await_taking()

    def resume_writing(self) -> None:
        """It has caught up."""
        if not self.transport.is_closing():  # else the rest has to go in the same time
            self._stop_taking()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; those of its head are counted."""
        if self.transport.is_closing():
            return
        if self.door is not None and self._between and (self.cycle is None or self.cycle.response_complete):
            refusal = self.door.refusal(data)
            if refusal is not None:
                self.transport.write(refusal)
                self._rest()
                return
        resting, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        self._ended = self._bodied = False
        super().data_received(data)
        if resting is not None:
            if self._patience is None and not self._answering and not self.transport.is_closing():
                self.timeout_keep_alive_task = resting  # an empty line, or the rest of a body: no request has begun
            else:
                resting.cancel()
        if not self._ended:  # else only a part of this read is the next request's, and unknown
            self._count(len(data))

    def on_message_begin(self) -> None:
        """A request begins, perhaps after others on this connection."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests wait on this connection")
        super().on_message_begin()
        self._between = False
        if self._head_bytes is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is complete; what follows is bounded by whoever reads the body."""
        super().on_headers_complete()  # raises for an address that is none: then it is still a head that is wrong
        self._stop_waiting()
        self._head_bytes = None
        self._beside_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._bodied = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is complete; its answer may be under way."""
        self._between = self._ended = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is written; where it was the last, the client has to take it."""
        super().on_response_complete()
        if self.transport.is_closing() and self in self.connections:
            self._await_taking()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more was asked for."""
        self._hang_up()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        self._refuse(400, "malformed_request", msg)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Counted before the task runs: many requests may be parsed in one turn of the loop."""
        if self.door is not None:
            self.door.started(cycle.scope)
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def _rest(self) -> None:
        """As after an answer: a connection that sends nothing more is closed."""
        self._stop_waiting()
        self._head_bytes = None
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _count(self, read: int) -> None:
        if self._head_bytes is not None:
            counted = self._head_bytes = self._head_bytes + read
        else:  # in a body; the parser keeps its trailers like headers
            counted = self._beside_bytes = 0 if self._bodied else self._beside_bytes + read
        if counted > self.max_head_bytes and not self.transport.is_closing():
            self._refuse(431, "headers_too_large", f"A request's head has at most {self.max_head_bytes} bytes.")

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._stop_waiting()
        self._patience = self.loop.call_later(self.head_s, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _await_taking(self) -> None:
        if self._taking is None:
            self._taking = self.loop.call_later(self.answer_s, self.transport.abort)

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _hang_up(self) -> None:
        self._stop_waiting()
        self.transport.close()  # once all that was written is taken
        self._await_taking()

    @property
    def _answering(self) -> bool:
        """Whether the last request whose head was complete has no answer yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, "slow_request", f"A request's head has to be complete within {self.head_s:g} s.")

    def _refuse(self, status: int, code: str, detail: str) -> None:
        in_body = not self._between and self._head_bytes is None
        if self.pipeline or self._answering != in_body:  # the next answer is an earlier request's, or was given
            self._hang_up()
            return
        problem = {
            "type": f"urn:fairline:problem:{code}",
            "title": _TITLES[status],
            "status": status,
            "detail": detail,
            "code": code,
        }
        body = msgspec.json.encode(problem)
        retry = f"retry-after: {random.randint(*RETRY_S)}\r\n" if status == 503 else ""  # noqa: PLR2004, S311
        head = (
            f"HTTP/1.1 {status} {_TITLES[status]}\r\n{retry}content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self._hang_up()


def limited(*, door: Door, most: int) -> type[LimitedProtocol]:
    """The protocol of one server, with its own door and number of connections."""
    return type("Limited", (LimitedProtocol,), {"door": door, "max_connections": most})
