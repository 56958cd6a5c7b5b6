"""The board: what it says without asking, and how long a wait is."""

import pytest

from fairline.store.replies import LookReply, LookRow
from gateway.board import Seen, is_sale_id


def seen(meta: dict[str, str] | None = None, *, waiting: int = 0, others: int = 0) -> Seen:
    fields = {
        "state": "open",
        "rate": "10.0",
        "opens_at_ms": "",
        "ends_at_ms": "",
        "when_sold_out": "close_line",
        "name": "A",
        "message": "",
        "per_buyer_limit": "2",
        "epoch": "0",
    }
    changed = dict(meta or {})
    outlook = changed.pop("outlook", "available")
    rows = [LookRow(3, waiting, 0, 1, outlook, 5, 0), LookRow(0, others, 0, 1, "available", 5, 0)]
    return Seen("s", LookReply("DONE", 1_700_000_000_000, fields | changed, rows), (("a", "A"), ("b", "B")), 0.0)


@pytest.mark.parametrize(
    ("meta", "keyed", "refusal"),
    [
        ({"state": "draft"}, False, "not_open"),
        ({"state": "draft"}, True, "not_open"),
        ({"state": "closed"}, False, "sale_closed"),
        ({"state": "closed"}, True, None),
        ({"state": "ended"}, False, None),
        ({"outlook": "sold_out"}, False, "sold_out"),
        ({"outlook": "sold_out"}, True, None),
        ({"outlook": "sold_out", "state": "paused"}, False, "sold_out"),
        ({"outlook": "sold_out", "state": "ended"}, False, None),
        ({"outlook": "sold_out", "when_sold_out": "keep_line"}, False, None),
        ({"outlook": "all_reserved"}, False, None),
        ({"outlook": "available"}, False, None),
    ],
)
def test_it_refuses_only_where_the_script_could_say_nothing_else(
    meta: dict[str, str],
    keyed: bool,  # noqa: FBT001 - handed over by pytest
    refusal: str | None,
) -> None:
    assert seen(meta).refusal("a", keyed=keyed, max_waiting=9) == refusal


def test_sold_out_is_not_told_as_long_as_somebody_waits_who_may_come_again() -> None:
    assert seen({"outlook": "sold_out"}, waiting=1).refusal("a", keyed=False, max_waiting=9) is None


def test_a_full_line_is_told_without_asking_except_to_one_who_may_have_a_place() -> None:
    full = seen({"state": "open"}, waiting=9)
    assert full.refusal("a", keyed=False, max_waiting=9) == "line_full"
    assert full.refusal("a", keyed=True, max_waiting=9) is None
    assert full.refusal("a", keyed=False, max_waiting=10) is None
    ended = seen({"state": "ended"}, waiting=9)
    assert ended.refusal("a", keyed=False, max_waiting=9) is None, "it has no line to come back to"


def test_the_expected_wait_follows_the_rate() -> None:
    assert seen(waiting=50).eta_s("a", 20) == 2.0


def test_lines_that_are_merged_share_the_rate() -> None:
    assert seen(waiting=50, others=150).eta_s("a", 20) == 8.0


@pytest.mark.parametrize("meta", [{"rate": ""}, {"state": "paused"}, {"state": "ended"}])
def test_nobody_knows_the_wait_where_nothing_moves_at_a_rate(meta: dict[str, str]) -> None:
    assert seen(meta, waiting=50).eta_s("a", 20) is None


def test_the_etag_does_not_change_with_the_time_alone() -> None:
    one, other = seen(), seen()
    other.now_ms += 1000
    assert one.body != other.body
    assert one.etag == other.etag
    assert seen({"message": "hello"}).etag != one.etag


@pytest.mark.parametrize("text", ["a", "a-1", "0" * 64])
def test_a_sale_may_be_called_so(text: str) -> None:
    assert is_sale_id(text)


@pytest.mark.parametrize("text", ["", "-a", "A", "a_b", "a" * 65, "a\n", "a}:meta", "ä", "a/b"])
def test_a_sale_may_not_be_called_so(text: str) -> None:
    assert not is_sale_id(text)
