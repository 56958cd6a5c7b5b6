"""Records that wait: how long, in which order, and when a partition holds too many."""

from fairline.stream.reader import Partition, Record
from order_service.deferred import Deferred


def record(offset: int, partition: int = 0) -> Record:
    return Record("t", partition, offset, b"k", b"v", (), None)


def deferred(most: int = 3) -> Deferred:
    return Deferred(first_s=1, longest_s=5, most=most, spread=lambda seconds: seconds)


def test_a_record_is_due_after_its_wait_and_each_wait_is_twice_the_last_up_to_the_longest() -> None:
    kept, one, now = deferred(), record(1), 100.0
    for wait in (1, 2, 4, 5, 5):
        kept.keep(one, now)
        assert kept.due(now + wait - 0.01, 10) == []
        assert kept.next_due_s(now, 3600) == wait
        now += wait
        assert kept.due(now, 10) == [one]


def test_the_longest_waiting_come_first_and_no_more_than_asked_for() -> None:
    kept = deferred()
    for offset, now in ((3, 2.0), (1, 1.0), (2, 0.0)):
        kept.keep(record(offset), now)
    assert [one.offset for one in kept.due(100, 2)] == [2, 1]


def test_what_is_kept_already_is_not_new() -> None:
    kept = deferred()
    assert kept.keep(record(1), 0)
    assert not kept.keep(record(1), 1)
    assert len(kept) == 1


def test_what_is_dropped_waits_no_more_and_starts_anew() -> None:
    kept = deferred()
    kept.keep(record(1), 0)
    kept.keep(record(1), 0)
    kept.drop([record(1), record(2)])
    assert kept.records() == []
    kept.keep(record(1), 0)
    assert kept.due(1, 10) == [record(1)]


def test_only_a_partition_that_holds_too_many_is_full() -> None:
    kept = deferred(most=2)
    for one in (record(1), record(2), record(1, partition=1)):
        kept.keep(one, 0)
    assert kept.full() == {Partition("t", 0)}
    assert record(2) in kept
    assert record(2, partition=1) not in kept
    kept.clear()
    assert kept.full() == set()


def test_only_what_comes_once_keeps_a_partition_from_being_read() -> None:
    kept = deferred(most=2)
    for one in (record(1), record(2), record(3)):
        kept.keep(one, 0)
    kept.keep(record(4), 0, lasting=True)
    assert kept.full() == {Partition("t", 0)}
    assert kept.stuck() == set()
    kept.keep(record(5), 0, lasting=True)
    assert kept.stuck() == {Partition("t", 0)}
    kept.drop([record(4)])
    assert kept.stuck() == set()


def test_with_nothing_kept_nothing_is_due() -> None:
    assert deferred().next_due_s(0, 7) == 7
    assert deferred().due(1e9, 10) == []


def test_records_that_failed_together_are_not_all_due_together() -> None:
    kept = Deferred(first_s=1, longest_s=5, most=100)
    for offset in range(50):
        kept.keep(record(offset), 0)
    assert kept.due(0.49, 100) == []
    assert 0 < len(kept.due(0.75, 100)) < 50
    assert len(kept.due(1.0, 100)) == 50
