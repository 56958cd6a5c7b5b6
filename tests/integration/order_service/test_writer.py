"""The writer on a real Kafka and Postgres: rules V5 and V6, trouble at every step, two writers at once."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from fairline.errors import UnavailableError
from fairline.events import Fact, OrderFailed
from fairline.stream.writer import cloud_event
from order_service.dead_letters import CUT_VALUE
from order_service.migrate import migrate
from order_service.writer import Writer
from tests.support.orders import TOO_LONG, a_sale_id, order, sale
from tests.support.stack import eventually, servers
from tests.support.writing import Bench, CrashError

STEPS = [
    ("before", "commit"),
    ("after", "commit"),
    ("before", "result"),
    ("after", "result"),
    ("before", "offset"),
    ("after", "offset"),
]


@pytest.fixture
async def bench(kafka: str, migrated_dsn: str) -> AsyncIterator[Bench]:
    bench = Bench(kafka, migrated_dsn)
    await bench.start()
    yield bench
    await bench.close()


async def test_orders_become_rows_and_results(bench: Bench) -> None:
    await bench.desk.know(sale(bench.sale_id))
    orders = [order(bench.sale_id, number) for number in range(1, 11)]
    await bench.put(*orders)
    await bench.run(bench.writer(), until=10)
    assert len(await bench.desk.sold(bench.sale_id)) == 10
    results = await bench.results(10)
    assert {result.ticket_id for result in results} == {one.ticket_id for one in orders}
    await bench.crash()
    assert await bench.left() == 0


@pytest.mark.parametrize(("when", "step"), STEPS, ids=[f"{when}-{step}" for when, step in STEPS])
async def test_v5_a_crash_at_any_step_loses_nothing_and_repeats_the_verdict(bench: Bench, when: str, step: str) -> None:
    await bench.desk.know(sale(bench.sale_id))
    orders = [order(bench.sale_id, 1), order(bench.sale_id, 2), order(bench.sale_id, 2, buyer_id="bob")]
    await bench.put(*orders)
    setattr(bench.trouble, when, step)
    with pytest.raises(CrashError):
        await bench.run(bench.writer(), until=3)
    await bench.crash()
    last = order(bench.sale_id, 3)
    await bench.put(last)
    writer = bench.writer()
    # Whichever records came again, in the end each ticket has one row and was told it.
    while await bench.desk.verdict(last.ticket_id) is None:
        await bench.run(writer, until=1)
    said: dict[str, set[str]] = {}
    for result in await bench.results(4):
        word = result.reason if isinstance(result, OrderFailed) else "confirmed"
        said.setdefault(result.ticket_id, set()).add(word)
    assert all(len(words) == 1 for words in said.values())
    assert {one.ticket_id for one in orders} <= set(said)
    assert Counter(word for words in said.values() for word in words) == {"confirmed": 3, "unit_taken": 1}


@pytest.mark.parametrize("step", ["commit", "result", "offset"])
async def test_v5_no_offset_passes_before_its_verdict_is_written_and_told(bench: Bench, step: str) -> None:
    await bench.desk.know(sale(bench.sale_id))
    await bench.put(order(bench.sale_id, 1), order(bench.sale_id, 2))
    bench.trouble.before = step
    with pytest.raises(CrashError):
        await bench.run(bench.writer(), until=2)
    await bench.crash()
    assert await bench.left() == 2


async def test_v6_a_poisonous_record_among_good_ones_is_given_up_alone(bench: Bench) -> None:
    await bench.desk.know(sale(bench.sale_id, stock=100))
    good = [order(bench.sale_id, number) for number in range(1, 41)]
    poison = order(bench.sale_id, 50, units=(0,))
    await bench.put(*good[:20], poison, *good[20:])
    writer = bench.writer()
    await bench.run(writer, until=41)
    assert len(await bench.desk.sold(bench.sale_id)) == 40
    assert await bench.desk.verdict(poison.ticket_id) == "not_writable"
    results = {result.ticket_id: result for result in await bench.results(41)}
    assert isinstance(results[poison.ticket_id], OrderFailed)
    (letter,) = await bench.dead_letters(1)
    assert letter.fact == poison
    headers = dict(letter.headers)
    assert headers["fairline-origin-topic"] == bench.topic.encode()
    assert headers["fairline-attempts"] == b"3"
    assert b"order_units_unit_check" in headers["fairline-reason"]
    assert {"fairline-origin-partition", "fairline-origin-offset", "fairline-given-up-at"} <= set(headers)
    rows = await bench.desk.fetch("SELECT FROM attempts WHERE topic = $1", bench.topic)
    assert rows == []
    await bench.crash()
    assert await bench.left() == 0


@pytest.mark.parametrize("name", ["sku", "buyer_id"])
async def test_v6_an_id_that_no_index_takes_is_given_up_and_not_tried_for_ever(bench: Bench, name: str) -> None:
    await bench.desk.know(sale(bench.sale_id))
    poison = order(bench.sale_id, 2, **{name: TOO_LONG})
    await bench.put(order(bench.sale_id, 1), poison, order(bench.sale_id, 3))
    await bench.run(bench.writer(), until=3)
    assert len(await bench.desk.sold(bench.sale_id)) == 2
    assert await bench.desk.verdict(poison.ticket_id) == "not_writable"
    (letter,) = await bench.dead_letters(1)
    assert letter.fact == poison


@pytest.mark.parametrize(
    ("noise", "zeros", "left"),
    [(1_048_400, 0, CUT_VALUE), (1_000, 4_000_000, 4_001_000)],
    ids=["just-fitted", "fits-when-compressed"],
)
async def test_v6_a_record_that_is_too_large_for_a_dead_letter_is_cut_and_holds_up_nothing(
    bench: Bench, noise: int, zeros: int, left: int
) -> None:
    await bench.desk.know(sale(bench.sale_id))
    junk = random.Random(1).randbytes(noise) + b"0" * zeros
    pressed = {"compression_type": "lz4"} if zeros else {}
    producer = AIOKafkaProducer(bootstrap_servers=bench.kafka, max_request_size=2 * len(junk), **pressed)
    await producer.start()
    try:
        await producer.send_and_wait(bench.topic, junk, headers=[("empty", None)])
    finally:
        await producer.stop()
    await bench.put(order(bench.sale_id))
    await bench.run(bench.writer(), until=2)
    (letter,) = await bench.dead_letters(1)
    assert letter.value == junk[:left]
    headers = dict(letter.headers)
    assert (headers["empty"], headers["fairline-origin-offset"]) == (b"", b"0")
    assert headers["fairline-reason"].startswith(b"too large, so cut from 1048400 bytes; ") == (left < len(junk))
    await bench.crash()
    assert await bench.left() == 0


async def test_v6_those_that_are_too_large_do_not_keep_others_from_becoming_dead_letters(bench: Bench) -> None:
    await bench.desk.know(sale(bench.sale_id))
    # One for each second place: wherever the producer puts them, some stand behind one that is refused.
    junk = [random.Random(1).randbytes(1_048_400 if number % 2 else 300_000) for number in range(8)]
    producer = AIOKafkaProducer(bootstrap_servers=bench.kafka, max_request_size=2_000_000)
    await producer.start()
    try:
        for each in junk:
            await producer.send_and_wait(bench.topic, each)
    finally:
        await producer.stop()
    await bench.put(order(bench.sale_id))
    await bench.run(bench.writer(dead_letters_in_a_row=100), until=9)
    letters = await bench.dead_letters(8)
    assert sorted(len(letter.value) for letter in letters) == sorted([CUT_VALUE, 300_000] * 4)
    await bench.crash()
    assert await bench.left() == 0


async def test_v6_what_is_no_order_is_a_dead_letter_without_a_verdict(bench: Bench) -> None:
    await bench.desk.know(sale(bench.sale_id))
    await bench.put(b"{]", b"", key=b"")
    await bench.put(b'{"type": "order.lost.v9"}', key=None)
    await bench.put(order(bench.sale_id))
    await bench.run(bench.writer(), until=4)
    assert sorted(letter.value for letter in await bench.dead_letters(3)) == [b"", b'{"type": "order.lost.v9"}', b"{]"]
    assert len(await bench.results(1)) == 1


async def test_v6_an_unreadable_value_with_a_readable_key_fails_its_ticket_and_is_a_dead_letter(bench: Bench) -> None:
    await bench.desk.know(sale(bench.sale_id))
    mine = order(bench.sale_id)
    value = b"\x00\x01 half a record"
    assert await bench.feeder.send_raw(bench.topic, mine.key.encode(), value, cloud_event(mine), timeout_s=60)
    await bench.run(bench.writer(), until=1)
    (result,) = await bench.results(1)
    assert isinstance(result, OrderFailed)
    assert (result.ticket_id, result.reason) == (mine.ticket_id, "not_writable")
    assert await bench.desk.history(mine.ticket_id) == "RELEASED not_writable"
    (letter,) = await bench.dead_letters(1)
    assert (letter.key, letter.value) == (mine.key.encode(), value)


async def test_a_broken_database_does_not_fill_the_dead_letters_and_all_is_written_once_it_is_well(
    bench: Bench,
) -> None:
    await bench.desk.know(sale(bench.sale_id, stock=100))
    orders = [order(bench.sale_id, number) for number in range(1, 41)]
    async with refused(bench):
        await bench.put(*orders)
        writer = bench.writer(dead_letters_in_a_row=5, batch=15)
        await bench.run(writer, until=5)
        for _ in range(30):
            assert await writer.run_once() == 0
        assert writer._metrics.giving_up_stopped.labels("Troubled")._value.get() == 1
        assert len(await bench.dead_letters(5)) == 5
        assert len(writer._deferred) == 35
    await bench.run(writer, until=35)
    assert writer._metrics.giving_up_stopped.labels("Troubled")._value.get() == 0
    assert len(await bench.desk.sold(bench.sale_id)) == 35
    assert len(await bench.dead_letters(5)) == 5
    await bench.crash()
    assert await bench.left() == 0


async def test_a_process_that_dies_at_the_limit_has_lost_no_order(bench: Bench) -> None:
    await bench.desk.know(sale(bench.sale_id, stock=100))
    async with refused(bench):
        await bench.put(*(order(bench.sale_id, number) for number in range(1, 11)))
        writer = bench.writer(dead_letters_in_a_row=2)
        await bench.run(writer, until=2)
        await writer.run_once()
        await bench.crash()
    await bench.run(bench.writer(dead_letters_in_a_row=2), until=8)
    assert len(await bench.desk.sold(bench.sale_id)) == 8


async def test_at_the_share_of_dead_letters_the_others_are_still_written(bench: Bench) -> None:
    await bench.desk.know(sale(bench.sale_id, stock=100))
    bad = [order(bench.sale_id, number, buyer_id="mallory", units=(0,)) for number in range(1, 6)]
    good = [order(bench.sale_id, number) for number in range(1, 11)]
    await bench.put(*bad, *good)
    writer = bench.writer(dead_letters_share=0.002, batch=50)
    await bench.run(writer, until=12)
    assert len(await bench.desk.sold(bench.sale_id)) == 10
    assert writer._metrics.giving_up_stopped.labels("Troubled")._value.get() == 1
    assert len(await bench.dead_letters(2)) == 2
    assert len(writer._deferred) == 3


@asynccontextmanager
async def refused(bench: Bench) -> AsyncIterator[None]:
    """Postgres refuses the confirmed orders of this sale as bad data, as a broken migration might make it."""
    name = f"broken_{uuid.uuid4().hex}"
    await bench.desk.execute(f"""
        CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.sale_id = '{bench.sale_id}' AND NEW.verdict = 'confirmed' THEN
                RAISE data_exception USING MESSAGE = 'broken';
            END IF;
            RETURN NEW;
        END $$
    """)
    await bench.desk.execute(f"CREATE TRIGGER {name} BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION {name}()")
    try:
        yield
    finally:
        await bench.desk.execute(f"DROP TRIGGER {name} ON orders")
        await bench.desk.execute(f"DROP FUNCTION {name}()")


@pytest.mark.parametrize(
    ("when", "step"),
    [("before", "give_up"), ("after", "give_up"), ("before", "dead_letter"), ("after", "dead_letter"),
     ("before", "result"), ("after", "result"), ("before", "offset")],
)  # fmt: skip
async def test_v6_a_crash_while_giving_up_keeps_the_count_and_repeats_the_dead_letter(
    bench: Bench, when: str, step: str
) -> None:
    await bench.desk.know(sale(bench.sale_id))
    poison = order(bench.sale_id, slots=(99,))
    await bench.put(poison)
    setattr(bench.trouble, when, step)
    writer = bench.writer()
    while not bench.trouble.met:
        try:
            await writer.run_once()
        except CrashError:
            break
    await bench.crash()
    counts = await bench.desk.fetch("SELECT count FROM attempts WHERE topic = $1", bench.topic)
    assert [row["count"] for row in counts] == [1 if step == "offset" else 3]
    await bench.run(bench.writer(), until=1)
    assert await bench.desk.verdict(poison.ticket_id) == "not_writable"
    assert {letter.fact for letter in await bench.dead_letters(1)} == {poison}
    assert {result.ticket_id for result in await bench.results(1)} == {poison.ticket_id}
    await bench.crash()
    assert await bench.left() == 0


async def test_v6_an_order_of_a_sale_not_known_yet_waits_while_others_go_on(bench: Bench) -> None:
    other = a_sale_id()
    await bench.desk.know(sale(other))
    waiting = order(bench.sale_id)
    await bench.put(waiting, *(order(other, number) for number in range(1, 11)))
    writer = bench.writer()
    await bench.run(writer, until=10)
    assert len(await bench.desk.sold(other)) == 10
    assert await bench.desk.verdict(waiting.ticket_id) is None
    await bench.crash()  # it is deferred in memory, and its offset was not passed
    writer = bench.writer()
    await bench.desk.know(sale(bench.sale_id))
    while await bench.desk.verdict(waiting.ticket_id) is None:
        await bench.run(writer, until=1)
    assert (await bench.results(1))[0].ticket_id == waiting.ticket_id


async def test_a_sale_of_which_nothing_is_known_holds_up_no_other_however_many_orders_it_has(bench: Bench) -> None:
    calm = a_sale_id()
    await bench.desk.know(sale(calm))
    many, mine = [order(bench.sale_id, number) for number in range(1, 101)], order(calm)
    await bench.put(*many, mine)
    writer = bench.writer(deferred=5, batch=5)
    await bench.run(writer, until=1)
    assert await bench.desk.verdict(mine.ticket_id) == "confirmed"
    assert 5 <= len(writer._deferred) <= 10
    await bench.desk.know(sale(bench.sale_id, stock=100))
    await bench.put(*many)  # as redrive does (O3)
    while len(await bench.desk.sold(bench.sale_id)) < 100:
        await writer.run_once()
    await bench.crash()
    assert await bench.left() == 0


async def test_a_sale_of_which_everything_is_refused_holds_up_no_other_however_many_orders_it_has(bench: Bench) -> None:
    calm = a_sale_id()
    await bench.desk.know(sale(calm), sale(bench.sale_id, stock=100))
    mine = order(calm)
    async with refused(bench):
        await bench.put(*(order(bench.sale_id, number) for number in range(1, 61)), mine)
        writer = bench.writer(deferred=5, batch=5, dead_letters_in_a_row=3)
        while await bench.desk.verdict(mine.ticket_id) is None:
            await writer.run_once()
    assert len(writer._deferred) <= 10
    rows = await bench.desk.fetch("SELECT FROM attempts WHERE topic = $1", bench.topic)
    assert len(rows) <= 3 + len(writer._deferred), "what is passed over leaves nothing"


async def test_v6_a_partition_with_too_many_that_come_once_is_read_no_further_until_they_can_be_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [order(bench.sale_id, number) for number in range(1, 31)]
    await bench.put(*many)
    writer = bench.writer(deferred=5, batch=5)
    monkeypatch.setattr(writer._handler, "comes_again", lambda _: False)
    for _ in range(20):
        await writer.run_once()
    deferred = len(writer._deferred)
    assert 5 <= deferred < 30
    await bench.desk.know(sale(bench.sale_id, stock=30))
    await bench.run(writer, until=30)
    assert len(await bench.desk.sold(bench.sale_id)) == 30
    await bench.crash()
    assert await bench.left() == 0


async def test_v5_a_dead_letter_that_kafka_does_not_acknowledge_is_sent_again_before_the_verdict_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.desk.know(sale(bench.sale_id))
    poison = order(bench.sale_id, slots=(99,))
    await bench.put(poison)
    writer = bench.writer()
    lost, told = [True], list[bool]()
    send, send_raw = writer._publisher.send, writer._publisher.send_raw

    async def once_not(*arguments: Any, **named: Any) -> bool:
        return not lost.pop() if lost else await send_raw(*arguments, **named)

    async def noted(*arguments: Any, **named: Any) -> list[bool]:
        told.append(True)
        return await send(*arguments, **named)

    monkeypatch.setattr(writer._publisher, "send_raw", once_not)
    monkeypatch.setattr(writer._publisher, "send", noted)
    with pytest.raises(UnavailableError):
        await _for_ever(writer)
    assert (lost, told) == ([], [])
    await bench.run(writer, until=1)
    assert {letter.fact for letter in await bench.dead_letters(1)} == {poison}
    await bench.crash()
    assert await bench.left() == 0


async def test_results_that_kafka_does_not_acknowledge_come_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.desk.know(sale(bench.sale_id))
    orders = [order(bench.sale_id, number) for number in (1, 2)]
    await bench.put(*orders)
    writer = bench.writer()
    lost, send = [True], writer._publisher.send

    async def once_not_the_last(facts: Sequence[Fact], *more: Any) -> list[bool]:
        return [*await send(facts[:-1], *more), not lost.pop()] if lost else await send(facts, *more)

    monkeypatch.setattr(writer._publisher, "send", once_not_the_last)
    with pytest.raises(UnavailableError):
        await _for_ever(writer)
    assert "confirmed" in {await bench.desk.verdict(each.ticket_id) for each in orders}
    await bench.run(writer, until=2)
    assert {result.ticket_id for result in await bench.results(2)} == {each.ticket_id for each in orders}


async def test_v5_a_writer_of_whose_partitions_another_one_took_some_goes_on_committing_its_own(
    kafka: str, migrated_dsn: str
) -> None:
    bench = Bench(kafka, migrated_dsn)
    await bench.start(partitions=2)
    await bench.desk.know(sale(bench.sale_id, stock=80))
    writers, stopping = [bench.writer(), bench.writer()], asyncio.Event()

    async def each_has_one() -> bool:
        consumers = [writer._reader._consumer for writer in writers]
        return all(consumer and len(consumer.assignment()) == 1 for consumer in consumers)

    async def all_passed() -> bool:
        return await bench.left() == 0

    await bench.put(*(order(bench.sale_id, number) for number in range(1, 41)))
    await bench.run(writers[0], until=40)
    running = [asyncio.create_task(writer.run(stopping)) for writer in writers]
    try:
        await eventually(each_has_one)
        await bench.put(*(order(bench.sale_id, number) for number in range(41, 81)))
        await eventually(all_passed)
        assert len(await bench.desk.sold(bench.sale_id)) == 80
    finally:
        stopping.set()
        await asyncio.gather(*running)
        await bench.close()


async def test_two_writers_given_the_same_records_agree(bench: Bench) -> None:
    await bench.desk.know(sale(bench.sale_id, stock=100))
    orders = [order(bench.sale_id, 1 + number % 100, buyer_id=f"b-{number}") for number in range(200)]
    await bench.put(*orders)
    first, second = bench.writer(), bench.writer()
    second._reader._group += "-other"  # so that both get everything
    await asyncio.gather(bench.run(first, until=200), bench.run(second, until=200))
    assert len(await bench.desk.sold(bench.sale_id)) == 100
    said: dict[str, set[str]] = {}
    results = await bench.results(400)
    for result in results:
        said.setdefault(result.ticket_id, set()).add(type(result).__name__)
    assert len(said) == 200
    assert all(len(words) == 1 for words in said.values())


async def test_postgres_killed_in_the_middle_loses_nothing(kafka: str) -> None:
    async with servers("postgres") as running:
        await migrate(running.postgres_dsn)
        bench = Bench(kafka, running.postgres_dsn)
        try:
            await bench.start()
            await bench.desk.know(sale(bench.sale_id, stock=1000))
            await bench.put(*(order(bench.sale_id, number) for number in range(1, 101)))
            writer = bench.writer(batch=10, acquire_timeout_ms=500)
            await bench.run(writer, until=10)
            await running.supervisor.hold("postgres")
            with pytest.raises(UnavailableError):
                await _for_ever(writer)
            assert writer._metrics.waiting_for_postgres._value.get() == 1
            await running.supervisor.release("postgres")
            deadline = asyncio.get_running_loop().time() + 60
            while len(await _sold(bench)) < 100:
                assert asyncio.get_running_loop().time() < deadline
                try:
                    await writer.run_once()
                except UnavailableError:
                    continue
            assert writer._metrics.waiting_for_postgres._value.get() == 0
            assert len({result.ticket_id for result in await bench.results(100)}) == 100
        finally:
            await bench.close()


async def _for_ever(writer: Writer) -> None:
    while True:
        await writer.run_once()


async def _sold(bench: Bench) -> list[tuple[int, str]]:
    try:
        return await bench.desk.sold(bench.sale_id)
    except UnavailableError:
        return []
