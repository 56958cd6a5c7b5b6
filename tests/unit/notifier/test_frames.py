"""The frames that a notifier makes of what it reads."""

import json

from fairline.store.replies import LookReply, LookRow
from fairline.store.scripts import TicketRecord
from fairline.store.tickets import ticket_of
from notifier.progress import progress_of, recovering_after
from notifier.results import frame_of
from notifier.wire import packed

META = {"epoch": "2", "seq": "41", "state": "paused", "rate": "7.5", "message": "Back soon", "fence": "f" * 40}
SEEN = LookReply(
    word="DONE",
    now_ms=1_700_000_000_123,
    meta=META,
    rows=[
        LookRow(served=3, waiting=9, older=2, free=5, outlook="available", stock=10, version=1),
        LookRow(served=0, waiting=0, older=0, free=0, outlook="sold_out", stock=1, version=1),
    ],
)


def test_progress_tells_the_lines_and_nothing_that_is_the_operators() -> None:
    payload = packed(progress_of("spring", SEEN, ("seat", "box")))
    assert payload[0] == 0x81  # one whole text frame
    body = payload[2:] if payload[1] < 126 else payload[4:]
    assert json.loads(body) == {
        "type": "progress",
        "sale_id": "spring",
        "state": "paused",
        "message": "Back soon",
        "rate": 7.5,
        "epoch": 2,
        "tail": 2 * 2**40 + 41,
        "items": {
            "seat": {"served": 3, "waiting": 9, "older": 2, "outlook": "available"},
            "box": {"served": 0, "waiting": 0, "older": 0, "outlook": "sold_out"},
        },
        "server_time": "2023-11-14T22:13:20.123Z",
    }


def test_absent_words_of_a_sale_are_null() -> None:
    frame = progress_of("spring", LookReply("DONE", 0, META | {"rate": "", "message": ""}, []), ())
    assert (frame.rate, frame.message) == (None, None)


def test_recovering_tells_no_place_and_no_pace() -> None:
    last = progress_of("spring", SEEN, ("seat", "box"))
    frame = recovering_after("spring", last)
    assert (frame.state, frame.items, frame.rate, frame.epoch, frame.tail) == (
        "recovering",
        {},
        None,
        last.epoch,
        last.tail,
    )
    assert (recovering_after("spring", None).epoch, recovering_after("spring", None).tail) == (0, 0)


def test_a_ticket_frame_says_whether_it_is_the_last() -> None:
    record = TicketRecord(
        state="DECLINED",
        sku="seat",
        buyer="anna",
        quantity=2,
        arrival=2**40 + 7,
        number=7,
        lease="",
        tries=1,
        back=0,
        units=(),
        slots=(),
        reason="payment_declined",
        joined_ms=1,
        changed_ms=2,
        sends=0,
    )
    ticket = ticket_of("t", record, (0, 0), -1)
    assert ticket is not None
    frame = frame_of("spring", ticket)
    assert (frame.final, frame.reason, frame.epoch, frame.quantity) == (True, "payment_declined", 1, 2)
    assert b"anna" not in packed(frame)
