"""Dead letters on a real Kafka and Postgres: S2, and a job that may die between any two of its steps."""

import asyncio
import itertools
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fairline.errors import UnavailableError
from fairline.events import encode
from fairline.stream.reader import Record
from fairline.stream.writer import EventWriter, TooLargeError, cloud_event
from order_service.audit import Act
from order_service.audit import page as audit_page
from order_service.collector import Collector, id_of
from order_service.letters import Letters
from order_service.problems import Problem
from tests.support.orders import NOWHERE, order, sale
from tests.support.writing import DEADLINE_S, Bench, CrashError, Publisher

ADA = Act(operator="ada", role="operator", reason="a test wants it", request_id="r-1")
_offsets = itertools.count()


class Job(Bench):
    """The bench of the writer, with the job beside it."""

    def __init__(self, kafka: str, dsn: str) -> None:
        super().__init__(kafka, dsn)
        self.publisher = Publisher(kafka, "test")
        self.publisher.trouble = self.trouble

    def letters(self, *, publisher: EventWriter | None = None, **limits: Any) -> Letters:
        """A new process."""
        collector = Collector(self.desk.postgres, self.kafka, "test", topics={self.topic: "order"}, **limits)
        return Letters(self.desk.postgres, collector, publisher or self.publisher, publish_s=10)

    async def failed(self, **more: Any) -> tuple[str, str]:
        """An order that Postgres refuses is given up: its dead letter and its ticket."""
        poison = order(self.sale_id, units=(0,), **more)
        await self.put(poison)
        await self.run(self.writer(), until=1)
        await self.crash()
        rows: Any = await self.letters().page(self.sale_id, "open", 100, 0)
        (letter,) = [row for row in rows["dead_letters"] if str(row["ticket_id"]) == poison.ticket_id]
        return letter["id"], poison.ticket_id

    async def unsent(self, value: bytes = b"{]", key: bytes | None = b"", **more: Any) -> str:
        """A dead letter without a verdict; its id."""
        headers = [
            ("fairline-origin-partition", b"0"),
            ("fairline-origin-offset", str(next(_offsets)).encode()),
            ("fairline-reason", b"of a test"),
            *more.get("headers", []),
        ]
        topic = f"{self.topic}.DLT"
        assert await self.feeder.send_raw(topic, key, value, headers, DEADLINE_S)
        return id_of(Record(topic, 0, 0, key, value, tuple(headers), None))

    async def acts(self) -> list[tuple[str, str]]:
        """What the audit log has of this sale, the first first."""
        async with self.desk.postgres.connection() as connection:
            found: Any = await audit_page(connection, self.sale_id, 100, None)
        return [(act["action"], act["subject"]) for act in reversed(found["acts"])]

    async def close(self) -> None:
        await self.publisher.close()
        await super().close()


@pytest.fixture
async def job(kafka: str, migrated_dsn: str) -> AsyncIterator[Job]:
    job = Job(kafka, migrated_dsn)
    await job.start()
    await job.desk.know(sale(job.sale_id, stock=100))
    yield job
    await job.close()


async def code_of(call: Any) -> str:
    with pytest.raises(Problem) as refused:
        await call
    return refused.value.code


async def test_a_dead_letter_is_listed_once_with_where_it_came_from_and_the_verdict_of_its_order(job: Job) -> None:
    letter, ticket = await job.failed()
    await job.failed(buyer_id="bob")
    found: Any = await job.letters().page(job.sale_id, None, 100, 0)
    first, second = found["dead_letters"]
    assert (first["id"], str(first["ticket_id"]), first["state"]) == (letter, ticket, "open")
    assert (first["kind"], first["verdict"], first["attempts"], first["sale_id"]) == ("order", "failed", 3, job.sale_id)
    assert "order_units_unit_check" in first["reason"]
    assert first["given_up_at"] is not None
    assert letter.startswith(f"{job.topic}-0-0-")
    assert second["id"] != letter
    assert found["next"] is None
    page: Any = await job.letters().page(job.sale_id, None, 1, 0)
    rest: Any = await job.letters().page(job.sale_id, None, 1, int(page["next"]))
    assert [page["dead_letters"][0]["id"], rest["dead_letters"][0]["id"]] == [letter, second["id"]]
    assert rest["next"] is None
    shown: Any = await job.letters().show(letter)
    assert (shown["topic"], shown["key"]) == (job.topic, ticket)
    assert ticket in shown["value"]
    assert shown["value_bytes"] == len(shown["value"].encode())


async def test_a_record_that_was_given_up_twice_is_one_dead_letter(job: Job) -> None:
    poison = order(job.sale_id, slots=(99,))
    await job.put(poison)
    job.trouble.after = "dead_letter"
    with pytest.raises(CrashError):
        await job.run(job.writer(), until=1)
    await job.crash()
    await job.run(job.writer(), until=1)
    assert len(await job.dead_letters(2)) == 2
    found: Any = await job.letters().page(job.sale_id, None, 100, 0)
    assert [str(row["ticket_id"]) for row in found["dead_letters"]] == [poison.ticket_id]


@pytest.mark.parametrize(("limits", "size"), [({"most": 3}, 1), ({"most_bytes": 1}, 600_000)], ids=["number", "bytes"])
async def test_a_look_is_bounded_and_the_next_one_goes_on_from_there(
    job: Job, limits: dict[str, Any], size: int
) -> None:
    sent = [await job.unsent(random.randbytes(size)) for _ in range(7)]
    letters, after, found = job.letters(**limits), 0, []
    for _ in range(7):
        page: Any = await letters.page(None, None, 1000, after)
        found += [row["id"] for row in page["dead_letters"] if row["id"] in sent]
        if page["next"] is None:
            break
        after = int(page["next"])
    assert sorted(found) == sorted(sent)
    assert page["next"] is None


async def test_two_processes_that_look_at_once_do_not_lock_each_other_out(job: Job) -> None:
    topic = f"{job.topic}.DLT"
    found = [Record(topic, n % 4, n, b"k", b"%d" % n, (), None) for n in range(3000)]
    # The order of partitions is that of Kafka's answers, so each may come in another one.
    orders = [sorted(found, key=lambda record: (sign * record.partition, record.offset)) for sign in (1, -1)]
    one, two = (Collector(job.desk.postgres, job.kafka, "test", topics={job.topic: "order"}) for _ in range(2))
    for _ in range(3):
        await asyncio.gather(one._keep(orders[0]), two._keep(orders[1]))
    gone = await job.desk.fetch("DELETE FROM dead_letters WHERE letter_topic = $1 RETURNING id", topic)
    assert len(gone) == 3000


@pytest.mark.parametrize("when", [b"0001-01-01T00:00:00+05:00", b"9999-12-31T23:59:59-05:00", b"\xff", b"2026-01-01"])
async def test_a_letter_that_tells_no_time_is_listed_like_the_others(job: Job, when: bytes) -> None:
    letter = await job.unsent(headers=[("fairline-given-up-at", when)])
    shown: Any = await job.letters().show(letter)
    assert shown["given_up_at"] is None


async def test_after_the_topic_was_made_anew_its_dead_letters_are_found_from_the_first(job: Job) -> None:
    mine = (await job.unsent(b"old"), await job.unsent(b"older"))
    letters = job.letters()
    await letters.page(None, None, 1, 0)
    # As if the topic had held other records where the known ones are.
    await job.desk.execute("UPDATE dead_letters SET id = id || '-gone' WHERE letter_topic = $1", f"{job.topic}.DLT")
    found: Any = await letters.page(None, None, 1000, 0)
    assert set(mine) <= {row["id"] for row in found["dead_letters"]}


async def test_s2_replay_sends_what_has_no_verdict_as_it_was_and_only_once(job: Job) -> None:
    mine = order(job.sale_id)
    letter = await job.unsent(encode(mine), mine.key.encode(), headers=cloud_event(mine))
    first: Any = await job.letters().replay(letter, ADA)
    again: Any = await job.letters().replay(letter, ADA)
    assert (first["state"], again["state"]) == ("replayed", "replayed")
    writer = job.writer()
    await job.run(writer, until=1)
    assert await writer.run_once() == 0
    assert await job.desk.verdict(mine.ticket_id) == "confirmed"
    assert await job.acts() == [("dead_letter.replay", letter)]


async def test_s2_replay_of_a_confirmed_order_sends_nothing_and_discards(job: Job) -> None:
    mine = order(job.sale_id)
    await job.desk.decide(mine)
    letter = await job.unsent(encode(mine), mine.key.encode())
    done: Any = await job.letters().replay(letter, ADA)
    assert (done["state"], done["verdict"]) == ("discarded", "confirmed")
    assert await job.left() == 0


async def test_s2_a_failed_order_is_never_sent_again(job: Job) -> None:
    letter, _ = await job.failed()
    assert await code_of(job.letters().replay(letter, ADA)) == "order_failed"
    assert await job.left() == 0
    assert await job.acts() == []


async def test_a_letter_that_its_topic_takes_no_more_stays_open(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_raw(*_: object) -> bool:
        raise TooLargeError("too large")

    mine = order(job.sale_id)
    letter = await job.unsent(encode(mine), mine.key.encode())
    with monkeypatch.context() as patch:
        patch.setattr(job.publisher, "send_raw", send_raw)
        assert await code_of(job.letters().replay(letter, ADA)) == "record_too_large"
    shown: Any = await job.letters().show(letter)
    assert shown["state"] == "open"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_replay_that_dies_around_its_sending_is_made_again_and_writes_one_order(job: Job, when: str) -> None:
    mine = order(job.sale_id)
    letter = await job.unsent(encode(mine), mine.key.encode())
    setattr(job.trouble, when, "dead_letter")  # the step of raw bytes
    with pytest.raises(CrashError):
        await job.letters().replay(letter, ADA)
    shown: Any = await job.letters().show(letter)
    assert shown["state"] == "open"
    await job.letters().replay(letter, ADA)
    await job.run(job.writer(), until=1 if when == "before" else 2)
    assert len(await job.desk.sold(job.sale_id)) == 1
    assert await job.acts() == [("dead_letter.replay", letter)] * 2


async def test_replay_that_kafka_does_not_take_leaves_the_letter_open(job: Job) -> None:
    letter = await job.unsent()
    nobody = EventWriter(NOWHERE, "test")
    try:
        with pytest.raises(UnavailableError):
            await job.letters(publisher=nobody).replay(letter, ADA)
    finally:
        await nobody.close()
    shown: Any = await job.letters().show(letter)
    assert shown["state"] == "open"


async def test_s2_readmit_is_for_failed_orders_and_is_told_the_ticket_once(job: Job) -> None:
    letter, _ = await job.failed()
    new = str(uuid.uuid4())
    may: Any = await job.letters().readmit(letter, ADA)
    assert (may["state"], may["sale_id"]) == ("open", job.sale_id)
    done: Any = await job.letters().readmitted(letter, new)
    again: Any = await job.letters().readmitted(letter, new)
    asked: Any = await job.letters().readmit(letter, ADA)
    assert [str(each["readmitted_as"]) for each in (done, again, asked)] == [new] * 3
    assert await job.acts() == [("dead_letter.readmit", letter)]


async def test_readmit_says_why_it_is_not_for_this_one(job: Job) -> None:
    mine = order(job.sale_id)
    letter = await job.unsent(encode(mine), mine.key.encode())
    assert await code_of(job.letters().readmit(letter, ADA)) == "no_verdict"
    await job.desk.decide(mine)
    assert await code_of(job.letters().readmit(letter, ADA)) == "order_confirmed"
    assert await code_of(job.letters().readmitted(letter, mine.ticket_id)) == "order_confirmed"
    assert await code_of(job.letters().readmit(await job.unsent(), ADA)) == "no_ticket"
    assert await job.acts() == []


async def test_what_was_handled_stays_so(job: Job) -> None:
    letter, _ = await job.failed()
    for _ in range(2):
        done: Any = await job.letters().discard(letter, ADA)
        assert done["state"] == "discarded"
    letters = job.letters()
    assert await code_of(letters.replay(letter, ADA)) == "already_handled"
    assert await code_of(letters.readmit(letter, ADA)) == "already_handled"
    assert await job.acts() == [("dead_letter.discard", letter)]


async def test_forty_at_once_handle_a_letter_once(job: Job) -> None:
    letter = await job.unsent()
    letters = job.letters()
    done: list[Any] = await asyncio.gather(*(letters.discard(letter, ADA) for _ in range(40)))
    assert {each["state"] for each in done} == {"discarded"}
    log = await job.desk.fetch("SELECT FROM audit WHERE subject = $1", letter)
    assert len(log) == 1


async def test_those_who_ask_at_once_share_a_look_that_began_after_they_asked(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector(job.desk.postgres, job.kafka, "test", topics={job.topic: "order"})
    looks = []
    look = collector._look

    async def counted() -> bool:
        looks.append(1)
        return await look()

    monkeypatch.setattr(collector, "_look", counted)
    first = asyncio.create_task(collector.collect())
    while not looks:  # noqa: ASYNC110 - it is under way
        await asyncio.sleep(0)
    letter = await job.unsent()
    assert await asyncio.gather(first, *(collector.collect() for _ in range(40))) == [True] * 41
    assert len(looks) == 2
    rows = await job.desk.fetch("SELECT FROM dead_letters WHERE id = $1", letter)
    assert len(rows) == 1


async def test_an_id_that_no_letter_has_is_said_to_be_unknown(job: Job) -> None:
    letters = job.letters()
    for call in (letters.show("nothing"), letters.replay("nothing", ADA), letters.discard("nothing", ADA)):
        assert await code_of(call) == "unknown_dead_letter"


async def test_the_audit_log_is_only_added_to(job: Job) -> None:
    await job.letters().discard(await job.unsent(), ADA)
    for change in ("UPDATE audit SET reason = ''", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(Exception, match="its rows are final"):
            await job.desk.execute(change)
