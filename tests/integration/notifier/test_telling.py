"""What a client is told, and when."""

import asyncio
import contextlib
import json

from redis.asyncio import Redis

from fairline.frames import CloseCode
from fairline.ids import new_ticket_id
from tests.support.listeners import Listener, RunningNotifier, a_notifier, token_of
from tests.support.sale import SaleDriver
from tests.support.stack import eventually


async def test_the_first_frame_is_the_present_state_and_then_comes_the_newest_progress(
    sale: SaleDriver, notifier: RunningNotifier
) -> None:
    first, second = await sale.join("anna", "berta")
    async with Listener.to(notifier.at(sale.id, first), token_of(sale.id, first)) as early:
        await early.progress()
        async with Listener.to(notifier.at(sale.id, second), token_of(sale.id, second)) as late:
            assert late.socket.subprotocol == "fairline.v1"
            await late.progress()
            ticket, progress = late.heard
    assert ticket == {
        "type": "ticket",
        "sale_id": sale.id,
        "ticket_id": second,
        "sku": "seat",
        "state": "WAITING",
        "reason": None,
        "quantity": 1,
        "arrival": 2,
        "number": 2,
        "epoch": 0,
        "units": [],
        "final": False,
    }
    assert progress.pop("server_time").endswith("Z")
    assert progress == {
        "type": "progress",
        "sale_id": sale.id,
        "state": "open",
        "message": "Welcome",
        "rate": None,
        "epoch": 0,
        "tail": 2,
        "items": {"seat": {"served": 0, "waiting": 2, "older": 0, "outlook": "available"}},
    }


async def test_each_move_of_a_ticket_is_pushed_up_to_its_end(sale: SaleDriver, notifier: RunningNotifier) -> None:
    [ticket_id] = await sale.join("anna")
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        await anna.ticket("WAITING")
        lease, _ = await sale.admit()
        await anna.ticket("ADMITTED")
        await sale.reserve(lease, ticket_id)
        assert (await anna.ticket("RESERVED"))["units"] == [1]
        await sale.confirm(ticket_id)
        told = await anna.ticket("CONFIRMED")
        assert (told["units"], told["final"]) == ([1], True)
        assert await anna.closed() == CloseCode.DONE
        assert anna.states() == ["WAITING", "ADMITTED", "RESERVED", "CONFIRMED"]


async def test_every_other_end_is_told_with_its_reason(sale: SaleDriver, notifier: RunningNotifier) -> None:
    declined, released, lapsed, gone = await sale.join("anna", "berta", "carla", "dora")
    async with (
        Listener.to(notifier.at(sale.id, declined), token_of(sale.id, declined)) as anna,
        Listener.to(notifier.at(sale.id, released), token_of(sale.id, released)) as berta,
        Listener.to(notifier.at(sale.id, lapsed), token_of(sale.id, lapsed)) as carla,
        Listener.to(notifier.at(sale.id, gone), token_of(sale.id, gone)) as dora,
    ):
        for each in (anna, berta, carla, dora):
            await each.ticket("WAITING")
        await sale.room.leave(sale.id, gone, "seat")
        assert (await dora.ticket())["state"] == "LEFT"
        lease, _ = await sale.admit()
        await sale.decline(lease, declined, reason="payment_declined")
        assert (await anna.ticket("DECLINED"))["reason"] == "payment_declined"
        await sale.reserve(lease, released)
        await sale.release(released)
        assert (await berta.ticket("RELEASED"))["units"] == []
        await sale.end_leases(lapsed)
        await sale.reap(max_tries=1)
        await carla.ticket("LAPSED")
        for each in (anna, berta, carla, dora):
            assert await each.closed() == CloseCode.DONE


async def test_a_lease_that_ends_is_told_as_waiting_again(sale: SaleDriver, notifier: RunningNotifier) -> None:
    [ticket_id] = await sale.join("anna")
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        await anna.ticket("WAITING")
        await sale.admit()
        await anna.ticket("ADMITTED")
        await sale.end_leases(ticket_id)
        await sale.reap()
        await anna.ticket("WAITING")


async def test_sold_out_is_told_to_those_who_still_wait(redis: Redis, notifier: RunningNotifier) -> None:
    sale = await SaleDriver.opened(redis, 1)
    try:
        await sale.sold("anna")
        joined = await sale.ask("berta")
        assert joined[0] == "SOLD_OUT"
        keeping = await SaleDriver.opened(redis, 1)
        winner, loser = await keeping.join("anna", "berta")
        async with Listener.to(notifier.at(keeping.id, loser), token_of(keeping.id, loser)) as berta:
            await berta.ticket("WAITING")
            lease, _ = await keeping.admit()
            await keeping.reserve(lease, winner)
            await berta.progress(lambda frame: frame["items"]["seat"]["outlook"] == "all_reserved")
            await keeping.confirm(winner)
            assert await keeping.sweep() == 1
            await berta.ticket("SOLD_OUT")
            assert await berta.closed() == CloseCode.DONE
        await keeping.remove()
    finally:
        await sale.remove()


async def test_a_client_of_a_finished_ticket_is_told_and_sent_away(sale: SaleDriver, notifier: RunningNotifier) -> None:
    [ticket_id] = await sale.sold("anna")
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        assert await anna.closed() == CloseCode.DONE
        assert anna.states() == ["CONFIRMED"]


async def test_a_client_that_comes_back_gets_what_it_missed(sale: SaleDriver, notifier: RunningNotifier) -> None:
    [ticket_id] = await sale.join("anna")
    url, token = notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)
    async with Listener.to(url, token) as anna:
        await anna.ticket("WAITING")
    lease, _ = await sale.admit()
    async with Listener.to(url, token) as anna:
        assert (await anna.ticket())["state"] == "ADMITTED"
    await sale.reserve(lease, ticket_id)
    async with Listener.to(url, token) as anna:
        assert (await anna.ticket())["state"] == "RESERVED"


async def test_two_windows_of_one_buyer_and_two_copies_of_the_notifier_tell_the_same(
    sale: SaleDriver, notifier: RunningNotifier, redis_url: str
) -> None:
    [ticket_id] = await sale.join("anna")
    token = token_of(sale.id, ticket_id)
    async with (
        a_notifier(redis_url) as other,
        Listener.to(notifier.at(sale.id, ticket_id), token) as here,
        Listener.to(notifier.at(sale.id, ticket_id), token) as again,
        Listener.to(other.at(sale.id, ticket_id), token) as there,
    ):
        for window in (here, again, there):
            await window.ticket("WAITING")
        lease, _ = await sale.admit()
        await sale.reserve(lease, ticket_id)
        await sale.confirm(ticket_id)
        told = [await window.ticket("CONFIRMED") for window in (here, again, there)]
        assert told[0] == told[1] == told[2]


async def test_a_ticket_that_moves_while_clients_connect_is_never_left_behind(
    sale: SaleDriver, notifier: RunningNotifier
) -> None:
    # Forty connect while every one of their tickets moves to its end: each must be told the end, whichever came first.
    ticket_ids = await sale.join(*(f"buyer-{n}" for n in range(40)))

    async def listen(ticket_id: str) -> list[str]:
        async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as buyer:
            assert await buyer.closed() == CloseCode.DONE
            return buyer.states()

    async def sell() -> None:
        while True:
            lease, admitted = await sale.admit(most=3)
            ids = [each.ticket_id for each in admitted.tickets]
            if not ids:
                return
            await sale.reserve(lease, *ids)
            await sale.confirm(*ids)

    told, _ = await asyncio.gather(asyncio.gather(*map(listen, ticket_ids)), sell())
    assert [states[-1] for states in told] == ["CONFIRMED"] * 40


async def test_c2_a_ticket_of_an_archived_sale_is_in_the_archive(sale: SaleDriver, notifier: RunningNotifier) -> None:
    [ticket_id] = await sale.sold("anna")
    await sale.change("end")
    await sale.acknowledge()
    await sale.relay()
    assert await sale.closed() == "CLOSED"
    token = token_of(sale.id, ticket_id)
    async with Listener.to(notifier.at(sale.id, ticket_id), token) as client:
        await client.ticket("CONFIRMED")
        assert await client.closed() == CloseCode.DONE, "it is still there"
    await sale.archive("all")
    await sale.stock.unlink("all")
    async with Listener.to(notifier.at(sale.id, ticket_id), token) as client:
        assert await client.closed() == CloseCode.ARCHIVED


async def test_a_ticket_that_redis_does_not_know_is_not_found(sale: SaleDriver, notifier: RunningNotifier) -> None:
    nobody = new_ticket_id()
    async with Listener.to(notifier.at(sale.id, nobody), token_of(sale.id, nobody)) as client:
        assert await client.closed() == CloseCode.NOT_FOUND
        assert client.states() == []


async def test_everybody_of_a_sale_gets_the_same_bytes_for_one_look_a_tick(
    sale: SaleDriver, notifier: RunningNotifier, redis: Redis
) -> None:
    ticket_ids = await sale.join(*(f"buyer-{n}" for n in range(30)))
    heard: dict[int, list[str]] = {n: [] for n in range(30)}

    async def listen(n: int, ticket_id: str, until: asyncio.Event) -> None:
        async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as buyer:
            while not until.is_set():
                text = await buyer.socket.recv()
                if '"progress"' in text:
                    heard[n].append(str(text))

    async def calls() -> int:
        stats = await redis.info("commandstats")
        return int(stats["cmdstat_evalsha"]["calls"])

    enough = asyncio.Event()
    listening = [asyncio.create_task(listen(n, each, enough)) for n, each in enumerate(ticket_ids)]
    await eventually(lambda: all(heard.values()))
    before, ticks = await calls(), notifier.count("fairline_tick_seconds_count")
    await eventually(lambda: notifier.count("fairline_tick_seconds_count") >= ticks + 20)
    asked, ticked = await calls() - before, notifier.count("fairline_tick_seconds_count") - ticks
    enough.set()
    await asyncio.gather(*listening)
    assert asked <= ticked + 2
    all_frames = {frame for frames in heard.values() for frame in frames}
    newest = max(len(frames) for frames in heard.values())
    assert len(all_frames) <= newest + 5
    assert len({json.loads(frame)["server_time"] for frame in all_frames}) == len(all_frames)


async def test_reads_of_clients_that_come_together_are_few_script_calls(redis: Redis, redis_url: str) -> None:
    sale = await SaleDriver.opened(redis, 10)
    ticket_ids = await sale.join(*(f"buyer-{n}" for n in range(60)))
    async with a_notifier(redis_url, read_batch=25) as notifier, contextlib.AsyncExitStack() as stack:
        listeners = await asyncio.gather(
            *(
                stack.enter_async_context(Listener.to(notifier.at(sale.id, each), token_of(sale.id, each)))
                for each in ticket_ids
            )
        )
        for each in listeners:
            await each.ticket("WAITING")
        assert notifier.count("fairline_read_batch_sum") >= 60
        before = notifier.count("fairline_read_batch_count")
        await sale.change("end")
        await sale.close()
        for each in listeners:
            assert (await each.ticket("DECLINED"))["reason"] == "sale_closed"
        # 60 tickets moved at once, 25 a call
        assert 3 <= notifier.count("fairline_read_batch_count") - before <= 5
    await sale.remove()


async def test_a_change_of_the_sale_is_in_the_next_progress(sale: SaleDriver, notifier: RunningNotifier) -> None:
    [ticket_id] = await sale.join("anna")
    async with Listener.to(notifier.at(sale.id, ticket_id), token_of(sale.id, ticket_id)) as anna:
        await anna.ticket("WAITING")
        await sale.patch(message="Back in five minutes", rate_per_s=7.5)
        told = await anna.progress(lambda frame: frame["message"] == "Back in five minutes")
        assert told["rate"] == 7.5
        await sale.change("pause")
        await anna.progress(lambda frame: frame["state"] == "paused")
        await sale.change("end")
        await anna.progress(lambda frame: frame["state"] == "ended")


async def test_something_that_moved_makes_the_next_tick_early(sale: SaleDriver, redis_url: str) -> None:
    _, second = await sale.join("anna", "berta")
    async with (
        a_notifier(redis_url, tick_ms=60_000) as slow,
        Listener.to(slow.at(sale.id, second), token_of(sale.id, second)) as berta,
    ):
        await berta.progress()
        await sale.admit(most=1)  # anna's ticket; she is not here, but the line has moved
        await berta.progress(lambda frame: frame["items"]["seat"]["served"] == 1)
