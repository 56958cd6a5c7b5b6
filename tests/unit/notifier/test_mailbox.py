"""What waits for a slow client, and in what order it goes out."""

import pytest

from fairline.frames import CloseCode
from notifier.mailbox import Mailbox


class FakeWire:
    def __init__(self, *, blocked: bool = False, room: int = 1_000) -> None:
        self.blocked = blocked
        self.room = room
        self.written: list[bytes] = []
        self.shut_with: list[int] = []

    def write(self, frame: bytes) -> None:
        self.written.append(frame)
        self.room -= 1
        self.blocked = self.room <= 0

    def shut(self, code: int) -> None:
        self.shut_with.append(code)


@pytest.fixture
def wire() -> FakeWire:
    return FakeWire()


def test_a_client_that_reads_gets_everything_at_once(wire: FakeWire) -> None:
    mailbox = Mailbox(wire, limit=1)
    assert mailbox.put_progress(b"p1")
    mailbox.put_result(b"r1")
    mailbox.put_result(b"r2")
    assert mailbox.put_progress(b"p2")
    assert wire.written == [b"p1", b"r1", b"r2", b"p2"]


def test_a_slow_client_gets_every_result_in_order_and_then_the_newest_progress_only(wire: FakeWire) -> None:
    mailbox = Mailbox(wire, limit=3)
    wire.blocked = True
    assert not mailbox.put_progress(b"p1")
    mailbox.put_result(b"r1")
    assert not mailbox.put_progress(b"p2")
    mailbox.put_result(b"r2")
    assert wire.written == []
    wire.blocked = False
    mailbox.flush()
    assert wire.written == [b"r1", b"r2", b"p2"]
    mailbox.flush()
    assert wire.written == [b"r1", b"r2", b"p2"]


def test_what_does_not_fit_waits_for_the_next_time(wire: FakeWire) -> None:
    mailbox = Mailbox(wire, limit=5)
    wire.blocked = True
    for frame in (b"r1", b"r2", b"r3"):
        mailbox.put_result(frame)
    mailbox.put_progress(b"p")
    wire.blocked, wire.room = False, 2
    mailbox.flush()
    assert wire.written == [b"r1", b"r2"]
    mailbox.put_result(b"r4")
    wire.blocked, wire.room = False, 2
    mailbox.flush()
    assert wire.written == [b"r1", b"r2", b"r3", b"r4"]
    wire.blocked, wire.room = False, 1
    mailbox.flush()
    assert wire.written[-1] == b"p"


def test_a_mailbox_that_is_full_closes_the_connection_and_keeps_no_more(wire: FakeWire) -> None:
    mailbox = Mailbox(wire, limit=2)
    wire.blocked = True
    for frame in (b"r1", b"r2", b"r3"):
        mailbox.put_result(frame)
    assert wire.shut_with == [CloseCode.TOO_SLOW]
    wire.blocked = False
    mailbox.flush()
    assert wire.written == [b"r1", b"r2"]


def test_finishing_closes_at_once_when_nothing_waits(wire: FakeWire) -> None:
    mailbox = Mailbox(wire, limit=2)
    mailbox.finish(CloseCode.DONE)
    assert wire.shut_with == [CloseCode.DONE]


def test_finishing_waits_for_the_results_and_the_first_reason_counts(wire: FakeWire) -> None:
    mailbox = Mailbox(wire, limit=2)
    wire.blocked = True
    mailbox.put_result(b"r1")
    mailbox.finish(CloseCode.DONE)
    mailbox.finish(CloseCode.TOO_OLD)
    assert wire.shut_with == []
    wire.blocked = False
    mailbox.flush()
    assert wire.written == [b"r1"]
    assert set(wire.shut_with) == {CloseCode.DONE}
