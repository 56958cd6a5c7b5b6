from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from fairline.demo.crowd import Crowd
from fairline.demo.log import JOINED, LIVE, NO_ANSWER, Log, percentiles
from fairline.demo.scenario import Scenario
from fairline.frames import CloseCode, ProgressFrame, TicketFrame
from loadtest.history import History, read
from loadtest.recorder import Recorder
from tests.support.fake_sale import FakeSale, fake_sale, go_away, hang_up, refuse
from tests.support.stack import eventually

SCENARIO = Scenario(sale_id="fake", seed=7, buyers=50, requests=6, items=1, stock=2)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(tmp_path / "crowd.jsonl", sale_id="fake") as recorder:
        yield recorder


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[], History]:
    """What the crowd has written so far."""
    return lambda: read([tmp_path / "crowd.jsonl"])


async def played(sale: FakeSale, history: Recorder, *, give_up_s: float = 20.0, connections: int = 3) -> Log:
    crowd = Crowd(SCENARIO, sale.url, history=history, connections=connections, give_up_s=give_up_s)
    await crowd.play()
    await crowd.ask_again()
    return crowd.log


async def test_everybody_is_told_an_end_and_the_history_has_it_all(
    recorder: Recorder, recorded: Callable[[], History]
) -> None:
    async with fake_sale(stock=2) as sale:
        log = await played(sale, recorder)
    assert log.answers() == {JOINED: 6}
    assert sorted(held.state for held in log.tickets.values()) == ["CONFIRMED", "CONFIRMED", *["SOLD_OUT"] * 4]
    history = recorded()
    joins, statuses = history.calls[:6], history.calls[6:]
    for name, held in log.tickets.items():
        (asked,) = [each.answer for each in joins if each.answer and each.answer.ticket_id == name]
        assert (asked.state, asked.arrival, asked.token) == ("WAITING", held.arrival, True)
        frames = [each.frame for each in history.frames if each.socket.ticket_id == name]
        assert [frame.state for frame in frames if isinstance(frame, TicketFrame)] == ["WAITING", held.state]
        (status,) = [each.answer for each in statuses if each.answer and each.sent.ticket_id == name]
        assert (status.state, status.units) == (held.state, (status.units or ()))
    assert sorted(each.answer.units for each in statuses if each.answer and each.answer.units) == [(1,), (2,)]
    assert [socket.code for socket in history.sockets] == [CloseCode.DONE] * 6
    assert len(log.join_ms()) == len(log.result_ms()) == 6
    assert 0 < log.answered_s() <= log.told_s()


async def test_whoever_is_sent_away_listens_at_the_next_server(recorder: Recorder) -> None:
    async with fake_sale(stock=6) as one, fake_sale(stock=6) as other:
        other.tickets, one.bad_sockets = one.tickets, [go_away] * 100
        crowd = Crowd(SCENARIO, one.url, history=recorder, notifier_urls=[one.url, other.url], connections=3)
        await crowd.play()
    assert {urlsplit(held.ws_url).netloc for held in crowd.log.tickets.values()} == {urlsplit(other.url).netloc}


async def test_a_request_whose_answer_was_lost_is_sent_again_with_the_same_key(
    recorder: Recorder, recorded: Callable[[], History]
) -> None:
    async with fake_sale() as sale:
        sale.bad_joins = [hang_up]
        log = await played(sale, recorder)
    keys = [key for key, _ in sale.asked]
    assert len(keys) == 7
    assert len(set(keys)) == 6
    assert log.answers() == {JOINED: 6}
    assert sorted(call.attempts for call in log.calls) == [1, 1, 1, 1, 1, 2]
    joins = [call for call in recorded().calls if call.sent.what == "join"]
    assert sorted(call.sent.key for call in joins) == sorted(keys), "each attempt is a call of its own"
    assert [call.answer is None for call in joins].count(True) == 1


async def test_come_back_later_is_obeyed(recorder: Recorder) -> None:
    async with fake_sale() as sale:
        sale.bad_joins = [lambda _: refuse(503, "unavailable", retry_after="1")]
        log = await played(sale, recorder)
    assert log.answers() == {JOINED: 6}
    assert max(log.join_ms()) >= 1000


async def test_what_was_put_off_is_kept_with_the_time_it_took(recorder: Recorder) -> None:
    async with fake_sale() as sale:
        sale.bad_joins = [lambda _: refuse(503, "overloaded", retry_after="1"), hang_up]
        log = await played(sale, recorder)
    said = [(each.status, each.word, each.retry_after_s) for each in log.put_off]
    assert sorted(said) == [(0, "ConnectionError", 0), (503, "overloaded", 1)]
    assert all(0 < each.took_s < 10 for each in log.put_off)


async def test_the_crowd_is_spread_over_gateways_and_goes_to_the_next_when_one_is_away(recorder: Recorder) -> None:
    async with fake_sale() as gone:
        away = gone.url
    async with fake_sale() as first, fake_sale() as second:
        crowd = Crowd(SCENARIO, away, first.url, second.url, history=recorder, connections=3, give_up_s=20)
        await crowd.play()
    assert crowd.log.answers() == {JOINED: 6}
    assert first.asked
    assert second.asked
    assert crowd.log.put_off == [], "nothing was sent where the connection was refused"


async def test_buyers_listen_where_they_are_told_to_and_elsewhere_when_nobody_is_there(recorder: Recorder) -> None:
    async with fake_sale() as sale:
        crowd = Crowd(
            SCENARIO, sale.url, history=recorder, notifier_urls=["ws://127.0.0.1:1", sale.url.replace("http", "ws")]
        )
        await crowd.play()
    assert all(held.ended_s for held in crowd.log.tickets.values())
    assert crowd.log.connections == 6, "nobody was there to be connected to"
    assert not any(held.ws_url.startswith("ws://127.0.0.1:1/") for held in crowd.log.tickets.values())


async def test_a_crowd_may_take_its_time(recorder: Recorder) -> None:
    async with fake_sale() as sale:
        crowd = Crowd(SCENARIO, sale.url, history=recorder, over_s=0.3)
        await crowd.play()
    sent = [call.sent_s - crowd.log.began_s for call in crowd.log.calls]
    assert all(at >= number * 0.05 for number, at in enumerate(sorted(sent)))


async def test_refusals_are_counted_by_their_codes(recorder: Recorder) -> None:
    async with fake_sale() as sale:
        sale.bad_joins = [
            lambda _: refuse(409, "sold_out"),
            lambda _: refuse(409, "already_bought"),
            lambda _: refuse(500, "internal"),
            lambda _: _plain(500),
        ]
        log = await played(sale, recorder)
    assert log.answers() == {JOINED: 2, "already_bought": 1, "http_500": 1, "internal": 1, "sold_out": 1}


async def _plain(status: int) -> web.StreamResponse:
    return web.Response(status=status, text="oh no")


async def test_a_live_ticket_of_another_request_is_not_followed_twice(recorder: Recorder) -> None:
    async with fake_sale() as sale:

        async def live(_: web.Request) -> web.StreamResponse:
            first = sale.ticket("1", {"sku": "item-1"})
            return web.json_response({**first, "token": None})

        sale.bad_joins = [live]
        log = await played(sale, recorder)
    assert log.answers() == {JOINED: 5, LIVE: 1}
    assert len(log.tickets) == 5


async def test_when_nobody_answers_the_log_says_so(recorder: Recorder) -> None:
    async with fake_sale() as sale:
        sale.bad_joins = [partial(refuse_all, sale)] * 100
        log = await played(sale, recorder, give_up_s=0.3)
    assert log.answers() == {"unavailable": 6}
    async with fake_sale() as sale:
        sale.bad_joins = [hang_up] * 100
        log = await played(sale, recorder, give_up_s=0.3)
    assert log.answers() == {NO_ANSWER: 6}


async def refuse_all(sale: FakeSale, _: web.Request) -> web.StreamResponse:
    assert sale.url
    return await refuse(503, "unavailable")


async def test_a_lost_socket_is_opened_again_and_nothing_is_missed(recorder: Recorder) -> None:
    async def cut(socket: web.WebSocketResponse) -> None:
        await socket.close(code=CloseCode.TOO_OLD)

    async with fake_sale() as sale:
        sale.bad_sockets = [cut, go_away, cut]
        log = await played(sale, recorder)
    assert log.connections == 9
    assert all(held.ended_s for held in log.tickets.values())


async def test_a_socket_that_is_refused_for_good_is_not_opened_again(
    recorder: Recorder, recorded: Callable[[], History]
) -> None:
    async def bad(socket: web.WebSocketResponse) -> None:
        await socket.close(code=CloseCode.BAD_TOKEN)

    async with fake_sale() as sale:
        sale.bad_sockets = [bad]
        log = await played(sale, recorder)
    assert log.connections == 6
    assert sorted(socket.code or 0 for socket in recorded().sockets) == [*[CloseCode.DONE] * 5, CloseCode.BAD_TOKEN]


async def test_who_was_never_told_by_a_socket_hears_the_end_when_all_are_asked_again(recorder: Recorder) -> None:
    async with fake_sale() as sale:
        sale.bad_sockets = [go_away] * 1000
        log = await played(sale, recorder, give_up_s=0.3)
    assert sorted(held.state for held in log.tickets.values()) == ["CONFIRMED", "CONFIRMED", *["SOLD_OUT"] * 4]


async def test_a_ticket_that_the_notifier_does_not_know_is_asked_for_and_followed_if_it_is_back(
    recorder: Recorder,
) -> None:
    async def unknown(socket: web.WebSocketResponse) -> None:
        await socket.close(code=CloseCode.NOT_FOUND)

    async with fake_sale() as sale:
        sale.bad_sockets = [unknown]
        log = await played(sale, recorder)
    assert len(sale.statuses) == 6 + 1, "all are asked in the end"
    assert all(held.ended_s for held in log.tickets.values())


async def test_a_ticket_of_before_a_rebuild_asks_its_status(recorder: Recorder) -> None:
    async with fake_sale() as sale:

        async def rebuilt(socket: web.WebSocketResponse) -> None:
            await socket.send_json(progress_of(epoch=1))
            await eventually(lambda: sale.statuses)
            await socket.close(code=CloseCode.TOO_OLD)

        sale.bad_sockets = [rebuilt]
        log = await played(sale, recorder)
    assert len(sale.statuses) == 6 + 1
    assert all(held.ended_s for held in log.tickets.values())


def progress_of(*, epoch: int) -> dict[str, Any]:
    """How the line of ``item-1`` stands."""
    return {
        "type": "progress",
        "sale_id": "fake",
        "state": "open",
        "message": None,
        "rate": None,
        "epoch": epoch,
        "tail": 6,
        "items": {"item-1": {"served": 0, "waiting": 6, "older": 0, "outlook": "available"}},
        "server_time": "2027-01-01T00:00:00Z",
    }


async def test_frames_of_an_unknown_kind_are_ignored(recorder: Recorder, recorded: Callable[[], History]) -> None:
    async with fake_sale() as sale:
        sale.before_end = [{"type": "weather", "sun": True}, progress_of(epoch=0)]
        log = await played(sale, recorder)
    assert all(held.ended_s for held in log.tickets.values())
    assert sum(isinstance(each.frame, ProgressFrame) for each in recorded().frames) == 6


def test_the_same_seed_asks_the_same_things() -> None:
    assert list(SCENARIO.asked()) == list(SCENARIO.asked())
    other = Scenario(sale_id="fake", seed=8, buyers=50, requests=6, items=1, stock=2)
    assert list(SCENARIO.asked()) != list(other.asked())


def test_percentiles_are_values_that_occurred() -> None:
    assert percentiles(range(1, 101)) == {"p50": 50, "p95": 95, "p99": 99}
    assert percentiles([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0}
    assert percentiles([]) == {"p50": 0.0, "p95": 0.0, "p99": 0.0}
