"""The writer on a real Kafka and Postgres: rules V5 and V6, trouble at every step, two writers at once."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from fairline.errors import UnavailableError
from fairline.events import OrderFailed
from order_service.migrate import migrate
from order_service.writer import Writer
from tests.support.orders import a_sale_id, order, sale
from tests.support.stack import servers
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


async def test_v6_what_is_no_order_is_a_dead_letter_without_a_verdict(bench: Bench) -> None:
    await bench.desk.know(sale(bench.sale_id))
    await bench.put(b"{]", b"", key=b"")
    await bench.put(b'{"type": "order.lost.v9"}', key=None)
    await bench.put(order(bench.sale_id))
    await bench.run(bench.writer(), until=4)
    assert sorted(letter.value for letter in await bench.dead_letters(3)) == [b"", b'{"type": "order.lost.v9"}', b"{]"]
    assert len(await bench.results(1)) == 1


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
    await bench.crash()  # it is held in memory, and its offset was not passed
    writer = bench.writer()
    await bench.desk.know(sale(bench.sale_id))
    while await bench.desk.verdict(waiting.ticket_id) is None:
        await bench.run(writer, until=1)
    assert (await bench.results(1))[0].ticket_id == waiting.ticket_id


async def test_v6_a_partition_that_holds_too_many_is_read_no_further_until_they_can_be_written(bench: Bench) -> None:
    many = [order(bench.sale_id, number) for number in range(1, 31)]
    await bench.put(*many)
    writer = bench.writer(held=5, batch=5)
    for _ in range(20):
        await writer.run_once()
    held = len(writer._held)
    assert 5 <= held < 30
    await bench.desk.know(sale(bench.sale_id, stock=30))
    await bench.run(writer, until=30)
    assert len(await bench.desk.sold(bench.sale_id)) == 30
    await bench.crash()
    assert await bench.left() == 0


async def test_results_that_kafka_does_not_acknowledge_come_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.desk.know(sale(bench.sale_id))
    mine = order(bench.sale_id)
    await bench.put(mine)
    writer = bench.writer()
    answers = [[False]]
    send = writer._publisher.send

    async def once_not(*arguments: object, **named: object) -> list[bool]:
        return answers.pop() if answers else await send(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(writer._publisher, "send", once_not)
    with pytest.raises(UnavailableError):
        await _for_ever(writer)
    assert await bench.desk.verdict(mine.ticket_id) == "confirmed"
    await bench.run(writer, until=1)
    assert [result.ticket_id for result in await bench.results(1)] == [mine.ticket_id]


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
