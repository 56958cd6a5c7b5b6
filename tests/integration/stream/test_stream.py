"""The reader and the writer against a real Kafka: what is committed does not come again, all else does."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer import message_accumulator, producer
from aiokafka.record import default_records

from fairline.errors import UnavailableError
from fairline.events import OrderConfirmed
from fairline.stream import topics
from fairline.stream.progress import behind, ends_of
from fairline.stream.reader import Batch, EventReader, Partition, Record
from fairline.stream.scan import scan
from fairline.stream.writer import EventWriter, TooLargeError
from tests.support.stack import servers

DEADLINE_S = 40


def confirmed(number: int, sale_id: str = "spring") -> OrderConfirmed:
    return OrderConfirmed(
        sale_id=sale_id,
        ticket_id=f"00000000-0000-4000-8000-{number:012d}",
        sku="seat",
        buyer_id=f"ada-{number}",
        units=(number,),
        slots=(1,),
        decided_at_ms=1_700_000_000_000 + number,
    )


class Topic:
    """A topic of a test's own. The facts know only their real topics, so they are sent as bytes."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.bootstrap = bootstrap
        self.name = name
        self.writer = EventWriter(bootstrap, "test")
        self.readers: list[EventReader] = []

    def reader(self, group: str = "group") -> EventReader:
        reader = EventReader(self.bootstrap, [self.name], f"{self.name}-{group}", "test")
        self.readers.append(reader)
        return reader

    async def put(self, *values: bytes, key: bytes = b"one") -> None:
        for value in values:
            assert await self.writer.send_raw(self.name, key, value, (), timeout_s=DEADLINE_S)

    async def close(self) -> None:
        for reader in self.readers:
            await reader.close()
        await self.writer.close()


@pytest.fixture
async def topic(kafka: str, request: pytest.FixtureRequest) -> AsyncIterator[Topic]:
    name = f"test-{request.node.name[:100]}-{time.time_ns()}"
    await topics.create(kafka, partitions=2, replication=1, within_s=DEADLINE_S, topics=[name])
    topic = Topic(kafka, name)
    yield topic
    await topic.close()


async def read(reader: EventReader, count: int, *, at_once: int = 100) -> list[Record]:
    found: list[Record] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {found} came"
        found += await reader.batch(at_once, timeout_s=1)
    return found


async def test_facts_are_acknowledged_one_by_one_and_read_back_with_their_keys(kafka: str) -> None:
    await topics.create(kafka, partitions=4, replication=1, within_s=DEADLINE_S)
    writer = EventWriter(kafka, "test")
    sale_id = f"spring-{time.time_ns()}"
    facts = [confirmed(number, sale_id) for number in range(50)]
    assert await writer.send(facts, timeout_s=DEADLINE_S, headers=[("traceparent", b"00-1")]) == [True] * 50
    reader = EventReader(kafka, [facts[0].topic], f"{sale_id}-group", "test")
    mine: list[Record] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(mine) < 50:
        assert time.monotonic() < deadline
        mine += [one for one in await reader.batch(500, timeout_s=1) if one.fact and one.fact.sale_id == sale_id]
    assert sorted(one.fact.key for one in mine if one.fact) == sorted(fact.key for fact in facts)
    assert {one.key for one in mine} == {fact.key.encode() for fact in facts}
    headers = dict(mine[0].headers)
    assert headers["ce_type"] == b"order.confirmed.v1"
    assert headers["traceparent"] == b"00-1"
    await reader.close()
    await writer.close()


async def test_what_is_committed_does_not_come_again_and_the_rest_does(topic: Topic) -> None:
    await topic.put(b"1", b"2", b"3")
    reader = topic.reader()
    records = await read(reader, 3)
    assert await reader.commit(reversed(records[:2]))
    await reader.close()
    again = topic.reader()
    assert [one.value for one in await read(again, 1)] == [b"3"]


async def test_an_offset_never_passes_a_record_that_is_kept(topic: Topic) -> None:
    await topic.put(b"1", b"2", b"3")
    reader = topic.reader()
    records = await read(reader, 3)
    assert await reader.commit(records, kept=[records[1]])
    await reader.close()
    assert [one.value for one in await read(topic.reader(), 2)] == [b"2", b"3"]


async def test_a_rewound_batch_comes_again_in_order(topic: Topic) -> None:
    await topic.put(b"1", b"2", b"3")
    reader = topic.reader()
    await reader.rewind(await read(reader, 3))
    assert [one.value for one in await read(reader, 3)] == [b"1", b"2", b"3"]


async def test_a_record_that_is_no_fact_is_handed_over_with_the_reason(topic: Topic) -> None:
    await topic.put(b"{]", b'{"type":"order.lost.v9","sale_id":"s"}', b"[" * 100_000, b"\xff")
    for record in await read(topic.reader(), 4):
        assert record.fact is None
        assert record.fault
        assert record.key == b"one"


async def test_a_paused_partition_gives_nothing_until_it_is_resumed(topic: Topic) -> None:
    await topic.put(b"1")
    reader = topic.reader()
    (first,) = await read(reader, 1)
    reader.pause([first.where])
    await topic.put(b"2")
    assert len(await reader.batch(10, timeout_s=0.5)) == 0
    reader.resume()
    assert [one.value for one in await read(reader, 1)] == [b"2"]


async def test_a_reader_that_kafka_fails_connects_anew_and_goes_on_from_what_is_committed(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topic.put(b"1", b"2")
    reader = topic.reader()
    records = await read(reader, 2)
    assert await reader.commit(records[:1])
    failed, generation = reader._consumer, reader.generation

    async def fails(**_: object) -> None:
        raise KafkaError

    monkeypatch.setattr(failed, "getmany", fails)
    with pytest.raises(UnavailableError):
        await reader.batch(1, timeout_s=0.1)
    assert reader.generation != generation
    assert [one.value for one in await read(reader, 1)] == [b"2"]
    assert reader._consumer is not failed


async def test_lag_counts_what_is_not_read_yet(topic: Topic) -> None:
    await topic.put(*[b"x"] * 10)
    reader = topic.reader()
    records = await read(reader, 4, at_once=4)
    assert len(records) == 4
    assert reader.lag() == {topic.name: 6}
    await reader.rewind(records)
    assert reader.lag() == {topic.name: 10}


async def test_a_group_is_behind_by_what_it_has_not_committed_of_what_there_was(topic: Topic) -> None:
    group = f"{topic.name}-group"
    assert await ends_of(topic.bootstrap, [topic.name], within_s=DEADLINE_S) == {}
    await topic.put(b"1", b"2", b"3")
    ends = await ends_of(topic.bootstrap, [topic.name], within_s=DEADLINE_S)
    assert list(ends.values()) == [3]
    reader = topic.reader()
    records = await read(reader, 3)
    assert await behind(topic.bootstrap, group, ends, within_s=DEADLINE_S) == 3
    assert await reader.commit(records[:2])
    assert await behind(topic.bootstrap, group, ends, within_s=DEADLINE_S) == 1
    await topic.put(b"4")
    assert await reader.commit(records)
    assert await behind(topic.bootstrap, group, ends, within_s=DEADLINE_S) == 0, "what came later is not meant"
    assert await reader.commit(await read(reader, 1))
    assert await behind(topic.bootstrap, group, ends, within_s=DEADLINE_S) == 0, "nor makes up for another partition"


async def test_a_second_member_takes_partitions_over_and_the_generation_says_so(topic: Topic) -> None:
    first = topic.reader()
    await first.batch(1, timeout_s=0.1)
    before = first.generation
    for number in range(20):
        await topic.put(str(number).encode(), key=str(number).encode())
    kept = await read(first, 20)
    second = topic.reader()

    async def poll(reader: EventReader) -> list[Record]:
        return list(await reader.batch(100, timeout_s=0.2))

    joining = asyncio.create_task(poll(second))
    deadline = time.monotonic() + DEADLINE_S
    came: list[Record] = []
    while not joining.done() or first.generation == before:
        assert time.monotonic() < deadline
        came += await poll(first)
    came += await joining
    while {one.value for one in came} != {one.value for one in kept}:
        assert time.monotonic() < deadline
        came += await poll(first)
        came += await poll(second)
    # Nothing was committed, so every record came again, to one of the two, and an old commit is refused.
    assert first._consumer is not None
    mine = {Partition(*where) for where in first._consumer.assignment()}
    gone = [one for one in kept if one.where not in mine]
    assert gone
    assert not await first.commit(gone)


async def test_a_dead_letter_may_have_neither_key_nor_value(topic: Topic) -> None:
    assert await topic.writer.send_raw(topic.name, None, None, [("why", b"nothing")], timeout_s=DEADLINE_S)
    (record,) = await read(topic.reader(), 1)
    assert (record.key, record.value, dict(record.headers)) == (None, b"", {"why": b"nothing"})


async def test_what_kafka_will_never_take_is_said_and_is_no_matter_of_time(topic: Topic) -> None:
    with pytest.raises(TooLargeError):
        await topic.writer.send_raw(topic.name, None, random.Random(1).randbytes(2_000_000), (), timeout_s=DEADLINE_S)
    assert await topic.writer.send_raw(topic.name, None, bytes(2_000_000), (), timeout_s=DEADLINE_S)


async def test_a_header_without_a_value_is_an_empty_one(topic: Topic) -> None:
    assert await topic.writer.send_raw(topic.name, None, b"x", [("nothing", None)], timeout_s=DEADLINE_S)  # type: ignore[list-item]
    (record,) = await read(topic.reader(), 1)
    assert record.headers == (("nothing", b""),)


async def test_nobody_there_is_unavailable_for_the_reader_and_not_acknowledged_for_the_writer() -> None:
    nobody = "127.0.0.1:1"
    reader, writer = EventReader(nobody, ["t"], "g", "test"), EventWriter(nobody, "test")
    with pytest.raises(UnavailableError):
        await reader.batch(1, timeout_s=0.1)
    with pytest.raises(UnavailableError):
        await reader.check()
    with pytest.raises(UnavailableError):
        await writer.check()
    assert await writer.send([confirmed(1)], timeout_s=0.5) == [False]
    assert await reader.commit([]) is True
    await reader.close()
    await writer.close()


async def test_after_a_lost_sequence_the_writer_uses_a_new_producer(topic: Topic) -> None:
    await topic.put(b"1")
    old = topic.writer._producer
    assert isinstance(old, AIOKafkaProducer)
    # As a broker sees it that has lost what this producer wrote.
    old._txn_manager._sequence_numbers.update({TopicPartition(topic.name, number): 77 for number in (0, 1)})
    assert not await topic.writer.send_raw(topic.name, b"one", b"2", (), timeout_s=DEADLINE_S)
    await topic.put(b"3")
    assert topic.writer._producer is not old
    assert [one.value for one in await read(topic.reader(), 2)] == [b"1", b"3"]


async def test_making_the_topics_twice_makes_them_once(kafka: str) -> None:
    name = f"twice-{time.time_ns()}"
    wanted = [name, f"{name}.DLT"]
    for made in (wanted, []):
        assert await topics.create(kafka, partitions=3, replication=1, within_s=DEADLINE_S, topics=wanted) == made


async def test_what_kafka_refuses_for_good_is_said_in_one_line(kafka: str) -> None:
    with pytest.raises(topics.TopicError) as caught:
        await topics.create(
            kafka, partitions=1, replication=3, within_s=DEADLINE_S, topics=[f"copies-{time.time_ns()}"]
        )
    assert "refuses" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_reader_and_writer_go_on_after_the_broker_was_killed() -> None:
    async with servers("kafka") as running:
        await topics.create(running.kafka, partitions=1, replication=1, within_s=DEADLINE_S, topics=["t"])
        writer = EventWriter(running.kafka, "test")
        reader = EventReader(running.kafka, ["t"], "g", "test")
        assert await writer.send_raw("t", b"k", b"1", (), timeout_s=DEADLINE_S)
        assert await reader.commit(await read(reader, 1))
        await running.supervisor.hold("kafka")
        assert not await writer.send_raw("t", b"k", b"lost?", (), timeout_s=0.5)
        assert writer._producer is None
        await running.supervisor.release("kafka")
        deadline = time.monotonic() + DEADLINE_S
        while not await writer.send_raw("t", b"k", b"2", (), timeout_s=1):
            assert time.monotonic() < deadline
        seen: list[bytes] = []
        while b"2" not in seen:
            assert time.monotonic() < deadline
            try:
                batch = await reader.batch(10, timeout_s=0.5)
            except UnavailableError:
                continue
            seen += [one.value for one in batch]
        assert b"1" not in seen
        assert await reader.commit(Batch())
        await reader.close()
        await writer.close()


class NoText(str):
    """A name that goes to Kafka as what is no UTF-8."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"na\xffme"


async def test_a_record_that_the_library_cannot_read_is_named_and_stops_nobody_but_its_reader(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the library's builder in Python takes such a name at all.
    for module in (producer, message_accumulator):
        monkeypatch.setattr(module, "DefaultRecordBatchBuilder", default_records._DefaultRecordBatchBuilderPy)
    await topic.put(b"before")
    reader = topic.reader()
    assert await reader.commit(await read(reader, 1))
    assert await topic.writer.send_raw(topic.name, b"one", b"no", [(NoText("name"), b"")], timeout_s=DEADLINE_S)
    with pytest.raises(UnavailableError, match=r"no UTF-8.* the group test-.*-group behind it"):
        await read(reader, 1)
    with pytest.raises(UnavailableError):
        await scan(topic.bootstrap, [topic.name], "test", starts={}, most=9, within_s=DEADLINE_S)


async def test_a_scan_reads_to_the_end_from_where_it_is_told_and_commits_nothing(topic: Topic) -> None:
    await topic.put(*(b"%d" % number for number in range(10)))
    where = (await topic.reader().batch(1, DEADLINE_S)).records[0].where
    other = Partition(topic.name, 1 - where.number)

    async def found(most: int = 100, **starts: int) -> tuple[list[bytes], bool]:
        at = {where: starts["start"]} if starts else {other: 99}
        records, complete = await scan(topic.bootstrap, [topic.name], "test", starts=at, most=most, within_s=DEADLINE_S)
        return [record.value for record in records], complete

    everything = [b"%d" % number for number in range(10)]
    assert await found() == (everything, True)
    assert await found(start=7) == (everything[7:], True)
    assert await found(start=10) == ([], True)
    assert await found(start=99) == (everything, True)
    values, complete = await found(most=4)
    assert (values, complete) == (everything[:4], False)


async def test_a_scan_of_large_records_is_bounded_by_bytes_and_one_from_its_last_record_gets_further(
    topic: Topic,
) -> None:
    large = [random.randbytes(600_000) for _ in range(5)]  # a fetch of one partition takes one of them
    await topic.put(*large)
    found, starts, complete = list[bytes](), dict[Partition, int](), False
    while not complete:
        records, complete = await scan(
            topic.bootstrap, [topic.name], "test", starts=starts, most=100, most_bytes=1, within_s=DEADLINE_S
        )
        known = len(starts)
        assert known < len(records) < len(large)
        found += [record.value for record in records[known:]]
        starts = {records[-1].where: records[-1].offset}
    assert found == large


async def test_a_scan_of_a_kafka_that_is_away_says_so() -> None:
    with pytest.raises(UnavailableError):
        await scan("127.0.0.1:1", ["nothing"], "test", starts={}, most=1, within_s=1)
