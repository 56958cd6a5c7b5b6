"""The way of an order through Kafka: sent again while the writer is away, and beside records that nobody can write."""

import msgspec

from fairline.demo.scenario import Scenario
from fairline.events import DEAD_LETTERS, ORDERS, OrderPlaced
from fairline.ids import new_ticket_id
from fairline.states import State
from fairline.stream.reader import EventReader, Record
from fairline.stream.writer import EventWriter
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import Scene, all_ready, hold, kill, release

WRITERS = ("order_service", "order_service-2")


async def test_orders_that_were_sent_again_and_again_have_one_outcome_each(stack: FullStack, queue: Scenario) -> None:
    async with Scene(stack, queue, over_s=2) as scene:
        await scene.confirmed(10)
        kill(stack, *WRITERS)
        await hold(stack, *WRITERS)

        async def sent_three_times() -> bool:
            records = (await scene.finals()).redis.tickets.values()
            return sum(record.state == State.RESERVED and record.sends >= 3 for record in records) >= 20

        await eventually(sent_three_times)
        await release(stack, *WRITERS)
        evidence = await scene.finish()
    again = [record for record in evidence.finals.redis.tickets.values() if record.sends >= 3]
    assert len(again) >= 20
    assert {record.state for record in again} == {State.CONFIRMED}
    assert len(evidence.rows) == queue.items * queue.stock
    await all_ready(stack)


async def test_records_that_nobody_can_write_become_dead_letters_and_the_sale_goes_on(
    stack: FullStack, rush: Scenario
) -> None:
    key = a_name(of="poison").encode()
    no_unit = OrderPlaced(
        sale_id=rush.sale_id,
        ticket_id=new_ticket_id(),
        sku=rush.skus[0],
        buyer_id=key.decode(),
        units=(0,),
        slots=(1,),
        epoch=0,
        arrival=1,
        number=1,
        reserved_at_ms=1,
    )
    poison = [b"\x00\xff garbage", b'{"type": "order.placed.v9"}', msgspec.json.encode(no_unit)]
    writer = EventWriter(stack.info["kafka"], "test")
    try:
        async with Scene(stack, rush, over_s=2) as scene:
            await scene.confirmed(10)
            for value in poison:
                assert await writer.send_raw(ORDERS, key, value, [], 10)
            evidence = await scene.finish(besides={no_unit.ticket_id: State.RELEASED})
    finally:
        await writer.close()
    assert len(evidence.rows) == rush.items * rush.stock
    letters = await dead_letters(stack, key, len(poison))
    assert sorted(letter.value for letter in letters) == sorted(poison)
    for letter in letters:
        said = dict(letter.headers)
        assert said["fairline-origin-topic"] == ORDERS.encode()
        assert said["fairline-attempts"] == b"3"
        assert said["fairline-reason"]
    await all_ready(stack)


async def dead_letters(stack: FullStack, key: bytes, wanted: int) -> list[Record]:
    """Those with this key, as soon as there are so many."""
    reader = EventReader(stack.info["kafka"], [ORDERS + DEAD_LETTERS], a_name(of="group"), "test")
    found: list[Record] = []

    async def enough() -> bool:
        found.extend(record for record in await reader.batch(100, 0.2) if record.key == key)
        return len(found) >= wanted

    try:
        await eventually(enough)
    finally:
        await reader.close()
    return found
