"""A keep-alive HTTP/1.1 connection of a buyer, one request at a time.

Client and services share two cores in the demo, so what the client costs is missing on the other side: 18 us of CPU a
request here, 92 us with aiohttp (2 cores, 64 connections, a 400-byte answer).
"""

import asyncio
from itertools import cycle
from typing import Final, Self, cast
from urllib.parse import urlsplit

import httptools

ANSWER_WITHIN_S: Final = 15.0
MAX_ANSWER_BYTES: Final = 1_000_000


class Answer:
    """Status, body and the seconds of ``Retry-After`` (0 where there is none)."""

    __slots__ = ("body", "retry_after_s", "status")

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.retry_after_s = 0.0


class _Wire(asyncio.Protocol):
    """Bytes to one answer at a time."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._answer = Answer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        assert self._transport is not None  # noqa: S101 - made before anybody can ask
        self._waiting = asyncio.get_running_loop().create_future()
        self._answer = Answer()
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self._fail(ConnectionError("an answer to no request"))
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"no HTTP: {error}"))

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.isdigit():
            self._answer.retry_after_s = float(value)

    def on_body(self, part: bytes) -> None:
        self._answer.body += part
        if len(self._answer.body) > MAX_ANSWER_BYTES:
            self._fail(ConnectionError(f"an answer of more than {MAX_ANSWER_BYTES} bytes"))

    def on_message_complete(self) -> None:
        parser, waiting = self._parser, self._waiting
        if parser is None or waiting is None or waiting.done():
            return
        self._answer.status = parser.get_status_code()
        keep = parser.should_keep_alive()
        self._parser = self._waiting = None
        waiting.set_result(self._answer)
        if not keep:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(ConnectionError(str(exc or "the connection was closed before the answer")))

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: Exception) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)
        self._waiting = self._parser = None


class Connection:
    """One connection; opened when first used and again after it was lost, then to the next of the servers given.

    A server that refuses the connection is passed over, as browsers do where a name has several addresses.
    """

    def __init__(self, *urls: str) -> None:
        self._servers = cycle([urlsplit(url) for url in urls])
        self._known = len(urls)
        self._authority = b""
        self._wire: _Wire | None = None

    async def post(self, path: str, body: bytes, *, idempotency_key: str) -> Answer:
        """POST JSON. Raises ``OSError`` (or ``TimeoutError``, which is one) when there is no answer."""
        return await self._ask(
            b"POST %b HTTP/1.1\r\nContent-Type: application/json\r\nIdempotency-Key: %b\r\nContent-Length: %d\r\n"
            % (path.encode(), idempotency_key.encode(), len(body)),
            body,
        )

    async def get(self, path: str, *, token: str) -> Answer:
        """GET with a ticket's token. Raises as ``post``."""
        return await self._ask(b"GET %b HTTP/1.1\r\nAuthorization: Bearer %b\r\n" % (path.encode(), token.encode()))

    async def _ask(self, head: bytes, body: bytes = b"") -> Answer:
        if self._wire is None or self._wire.closed:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                self._wire = await self._connected()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await self._wire.ask(b"%bHost: %b\r\n\r\n%b" % (head, self._authority, body))
        except BaseException:
            self._wire.close()  # a late answer must not be taken for that of the next request
            raise

    async def _connected(self) -> _Wire:
        for left in reversed(range(self._known)):
            server, loop = next(self._servers), asyncio.get_running_loop()
            self._authority = server.netloc.encode()
            try:
                _, wire = await loop.create_connection(_Wire, server.hostname or "127.0.0.1", server.port or 80)
            except ConnectionRefusedError:
                if not left:
                    raise
            else:
                return wire
        raise ConnectionError("no server was given")

    def close(self) -> None:
        """A second call is fine."""
        if self._wire is not None:
            self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
