"""fairline.frames: the place in line that everybody works out alike, and the shape of what is sent."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairline.frames import ByeFrame, CloseCode, Hello, Place, ProgressFrame, TicketFrame, position


@pytest.mark.parametrize(
    ("number", "served", "older", "place"),
    [
        (1, 0, 0, 1),
        (5, 0, 0, 5),
        (5, 4, 0, 1),
        (5, 3, 7, 9),  # seven of earlier epochs go first
        (3, 8, 0, 1),  # back from a lease: before served, and next
        (3, 8, 2, 1),
    ],
)
def test_a_place_is_what_is_left_before_a_ticket(number: int, served: int, older: int, place: int) -> None:
    assert position(number=number, served=served, older=older) == place


_numbers = st.integers(0, 2**40)


@given(_numbers, _numbers, _numbers, _numbers)
def test_a_place_never_grows_while_the_line_moves_on(number: int, served: int, more: int, older: int) -> None:
    before = position(number=number, served=served, older=older)
    assert 1 <= position(number=number, served=served + more, older=older) <= before


@given(st.sets(st.integers(1, 50)), st.integers(1, 50))
def test_a_place_counts_nobody_too_few(waiting: set[int], number: int) -> None:
    """``served`` is the lowest number still waiting, less one; leavers between make the place an upper bound."""
    served = min(waiting | {number}) - 1
    ahead = sum(other < number for other in waiting)
    assert position(number=number, served=served, older=0) >= ahead + 1


def test_frames_say_their_type() -> None:
    ticket = TicketFrame(
        sale_id="s",
        ticket_id="t",
        sku="x",
        state="WAITING",
        reason=None,
        quantity=1,
        arrival=1,
        number=1,
        epoch=0,
        units=(),
        final=False,
    )
    progress = ProgressFrame(
        sale_id="s",
        state="open",
        message=None,
        rate=2.0,
        epoch=0,
        tail=9,
        items={"x": Place(served=1, waiting=2, older=0, outlook="available")},
        server_time="2026-01-01T00:00:00Z",
    )
    frames = (ticket, progress, ByeFrame(retry_after_ms=5), Hello(token="t"))
    said = [msgspec.json.decode(msgspec.json.encode(frame)) for frame in frames]
    assert [each["type"] for each in said] == ["ticket", "progress", "bye", "hello"]
    assert said[1]["items"] == {"x": {"served": 1, "waiting": 2, "older": 0, "outlook": "available"}}


def test_close_codes_are_ours_or_the_protocol_s_and_differ() -> None:
    codes = [code for name, code in vars(CloseCode).items() if name.isupper()]
    assert len(set(codes)) == len(codes)
    assert all(code in {1001, 1013} or 4000 <= code < 5000 for code in codes)
