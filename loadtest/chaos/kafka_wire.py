"""What of Kafka's protocol a proxy has to understand: who a client is, and which answers are those to a publish.

Every request is a length (int32), an api key and a version (int16 each), a correlation id (int32) and the client's id
(int16 and text); every answer is a length and the correlation id. Only these first bytes are kept.
"""

import struct
from collections.abc import Iterator
from typing import Final

PRODUCE: Final = 0
_REQUEST: Final = struct.Struct(">hhi")
_ID: Final = struct.Struct(">i")
_AT_CLIENT_ID: Final = 12
_MOST_WAITING: Final = 1_000


class Frames:
    """Cuts a stream into frames of a length and a body, and gives the first bytes of each body. Pure."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._head = b""
        self._left = 0  # bytes of the frame that are passed over

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The heads of the frames whose heads end in this part of the stream."""
        while data:
            if self._left:
                passed = min(self._left, len(data))
                self._left -= passed
                data = data[passed:]
                continue
            wanted = 4 + self._keep - len(self._head)
            self._head += data[:wanted]
            data = data[wanted:]
            if len(self._head) == 4 + self._keep:
                (length,) = _ID.unpack_from(self._head)
                yield self._head[4:]
                self._left = max(0, length - self._keep)
                self._head = b""


class PublishAnswers:
    """Knows the answers to publishes among all answers of one connection."""

    def __init__(self) -> None:
        self._requests = Frames(_REQUEST.size)
        self._answers = Frames(_ID.size)
        self._published: set[int] = set()

    def up(self, data: bytes) -> None:
        """Remember the publishes."""
        for head in self._requests.feed(data):
            api, _, correlation = _REQUEST.unpack(head)
            if api == PRODUCE and len(self._published) < _MOST_WAITING:
                self._published.add(correlation)

    def down(self, data: bytes) -> bool:
        """Whether one of them is answered here."""
        found = False
        for head in self._answers.feed(data):
            (correlation,) = _ID.unpack(head)
            if correlation in self._published:
                self._published.discard(correlation)
                found = True
        return found


def client_id(first: bytes) -> str:
    """What a client calls itself in its first request; empty where it says nothing that can be read."""
    end = _AT_CLIENT_ID + 2
    if len(first) < end:
        return ""
    (length,) = struct.unpack_from(">h", first, _AT_CLIENT_ID)
    return first[end : end + max(0, length)].decode(errors="replace")
