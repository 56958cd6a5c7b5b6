"""Statistics: flat counts become totals and items that add up."""

from fairline.states import State
from fairline.store.replies import StatsReply
from gateway.counts import counts_of


def reply(**counts: int) -> StatsReply:
    flat: list[str] = []
    for name, number in counts.items():
        flat += [name.replace("__", ":"), str(number)]
    return StatsReply("DONE", 1_700_000_000_000, "open", flat, [(10, 3, 10, 0), (5, 5, 5, 0)], in_flight=1, outbox=2)


NAMED = (("a", "A"), ("b", "B"))


def test_items_and_totals_add_up() -> None:
    counts = counts_of("s", NAMED, reply(a__joined=5, a__WAITING=2, a__CONFIRMED=3, b__joined=4, b__DECLINED=4))
    assert (counts.joined, counts.waiting, counts.confirmed, counts.declined) == (9, 2, 3, 4)
    for each in (counts, *counts.items):
        assert each.joined == sum(getattr(each, state.lower()) for state in State)
    assert [item.joined for item in counts.items] == [5, 4]
    assert [item.stock for item in counts.items] == [10, 5]


def test_refusals_and_reasons_are_counted_by_code() -> None:
    found = {
        "a__asked": 9,
        "a__refused__sold_out": 2,
        "b__refused__sold_out": 1,
        "b__refused__key_reused": 4,
        "a__DECLINED": 3,
        "a__DECLINED__payment_declined": 2,
        "a__DECLINED__sale_closed": 1,
    }
    counts = counts_of("s", NAMED, reply(**found))
    assert counts.refused == {"idempotency_key_reused": 4, "sold_out": 3}
    assert counts.declined_by_reason == {"payment_declined": 2, "sale_closed": 1}
    assert sum(counts.declined_by_reason.values()) == counts.declined
    assert counts.items[0].refused == {"sold_out": 2}


def test_refusals_without_a_sku_are_in_the_totals_alone() -> None:
    counts = counts_of("s", NAMED, reply(__asked=3, __refused__unknown_sku=3, a__asked=1))
    assert counts.asked == 4
    assert counts.refused == {"unknown_sku": 3}
    assert [item.asked for item in counts.items] == [1, 0]


def test_a_sku_called_like_a_field_is_no_field() -> None:
    counts = counts_of("s", (("refused", "R"), ("joined", "J")), reply(refused__asked=2, joined__joined=1))
    assert (counts.asked, counts.joined, counts.refused) == (2, 1, {})
