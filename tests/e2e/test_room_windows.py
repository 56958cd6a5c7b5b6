"""The room's page where things come late, twice or not at all: windows, answers, frames and tickets that cross."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.async_api import Browser, expect

from fairline.ids import readmission_of
from tests.support.browser import Tab
from tests.support.in_a_browser import House, a_visit, heads, join, open_sale, ticket_id
from tests.support.sale import SaleDriver
from tests.support.stack import eventually

ALL_THE_WORDS = """() => {
    window.words = [];
    const state = document.getElementById("state");
    new MutationObserver(() => window.words.push(state.textContent)).observe(state, {childList: true, subtree: true});
}"""


async def test_a_window_that_was_open_before_another_joined_takes_its_ticket_and_loses_it_not(
    browser: Browser, house: House
) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await tab.sees("Get in line")
        other = await tab.page.context.new_page()
        await other.goto(f"{house.api.url}/room/{sale.id}")
        await join(Tab(other))
        await heads(tab, "You are in line")
        mine = await ticket_id(tab)
        await other.close()
        await tab.page.reload()
        await heads(tab, "You are in line")
        assert await ticket_id(tab) == mine
        assert await sale.count("joined") == 1


async def test_a_window_that_does_not_hear_of_the_other_finds_its_ticket_when_it_joins(
    browser: Browser, house: House
) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await tab.page.evaluate("addEventListener('storage', event => event.stopImmediatePropagation(), true)")
        await tab.page.add_init_script("addEventListener('storage', event => event.stopImmediatePropagation(), true)")
        await tab.page.reload()
        await tab.sees("Get in line")
        other = await tab.page.context.new_page()
        await other.goto(f"{house.api.url}/room/{sale.id}")
        await join(Tab(other))
        mine = await ticket_id(Tab(other))
        await other.close()
        await tab.page.fill("#buyer", "anna")
        await tab.page.click("#go")
        await heads(tab, "You are in line")
        assert await ticket_id(tab) == mine
        await tab.page.reload()
        await heads(tab, "You are in line")
        assert await ticket_id(tab) == mine


async def test_an_answer_from_before_a_move_does_not_take_the_move_back(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def late(route: Any) -> None:
            response = await route.fetch()
            asked.set()
            await answer.wait()
            await route.fulfill(response=response)

        await tab.page.route(f"**/sales/{sale.id}/tickets/*", late)
        await join(tab)
        await asked.wait()
        await sale.admit()
        await heads(tab, "It is your turn")
        await tab.page.evaluate(ALL_THE_WORDS)
        async with tab.page.expect_response(f"**/sales/{sale.id}/tickets/*") as response:
            answer.set()
        await (await response.value).finished()
        await sale.patch(message="told after it")
        await tab.sees("told after it")
        assert await tab.page.evaluate("window.words") == []


async def test_a_sale_that_could_not_be_read_at_first_is_read_though_frames_come(
    browser: Browser, house: House
) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        refuse = {"status": 503, "json": {"code": "overloaded"}, "headers": {"retry-after": "1"}}
        await tab.page.route(f"**/sales/{sale.id}", lambda route: route.fulfill(**refuse), times=1)
        await tab.page.reload()
        await expect(tab.page.locator("#position")).to_have_text("1")
        await expect(tab.page.locator("#name")).to_have_text("A sale of a test", timeout=15_000)
        tab.faults.clear()


async def test_frames_of_a_ticket_that_is_gone_are_not_taken_for_the_next_one(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        gone = {"status": 404, "json": {"code": "unknown_ticket"}}
        await tab.page.route(f"**/sales/{sale.id}/tickets/*", lambda route: route.fulfill(**gone), times=1)
        await tab.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await tab.sees("Your place could not be found any more")
        await join(tab, "bert")
        mine = await ticket_id(tab)
        await expect(tab.page.locator("#position")).to_have_text("2")
        await sale.admit(1)
        await expect(tab.page.locator("#position")).to_have_text("1")
        assert await ticket_id(tab) == mine
        tab.faults.clear()


async def test_s2_the_old_ticket_is_told_no_more_once_the_new_one_is_known(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        old = await ticket_id(tab)
        await tab.page.goto("about:blank")
        lease, _ = await sale.admit()
        await sale.reserve(lease, old)
        await sale.release(old, reason="not_writable")
        assert await sale.room.readmit(sale.id, old) == "READMITTED"
        known = asyncio.Event()

        async def late(socket: Any) -> None:
            server = socket.connect_to_server()

            async def forward(message: str) -> None:
                await known.wait()
                socket.send(message)

            server.on_message(lambda message: asyncio.ensure_future(forward(message)))

        await tab.page.route_web_socket(f"**/sales/{sale.id}/tickets/{old}", late)
        await tab.page.goto(f"{house.api.url}/room/{sale.id}")
        await tab.sees("The shop has put you back at your old place")
        await tab.page.evaluate(ALL_THE_WORDS)
        known.set()
        await sale.admit()
        await heads(tab, "It is your turn")
        assert await tab.page.evaluate("window.words") == ["It is your turn"]
        assert await ticket_id(tab) == readmission_of(sale.id, old)


async def test_nobody_asks_about_a_ticket_while_the_sale_is_recovering(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await tab.page.add_init_script("Math.random = () => 0")  # whoever means to ask within five seconds asks at once
        await tab.page.reload()
        await join(tab)
        await expect(tab.page.locator("#position")).to_have_text("1")
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url))
        fence = await house.api.redis.hget(sale.keys.meta, "fence")
        await house.api.redis.hset(sale.keys.meta, "fence", "0" * 40)
        await tab.sees("The sale is halted for a moment")
        told = house.notifier.count("fairline_frames_total", type="progress")
        await eventually(lambda: house.notifier.count("fairline_frames_total", type="progress") > told + 5)
        await house.api.redis.hset(sale.keys.meta, "fence", fence)
        await expect(tab.page.locator("#trouble")).to_be_hidden()
        assert asked == []


async def test_a_refused_question_at_the_opening_waits_as_long_as_it_was_told(browser: Browser, house: House) -> None:
    sale = SaleDriver(house.api.redis, {"seat": 1}, opens_at=datetime.now(UTC) - timedelta(seconds=1))
    await sale.create()
    async with a_visit(browser, house.api, sale.id) as tab:
        await tab.sees("Opens in")
        asked: list[str] = []

        async def refuse(route: Any) -> None:
            asked.append(route.request.url)
            await route.fulfill(status=503, json={"code": "overloaded"}, headers={"retry-after": "3600"})

        await tab.page.route(f"**/sales/{sale.id}", refuse)
        await eventually(lambda: len(asked) == 1)
        await tab.page.evaluate(
            "() => new Promise(done => setTimeout(done, 3000))"  # three of its seconds
        )
        assert len(asked) == 1
        tab.faults.clear()


async def test_joining_again_waits_until_it_is_certain_that_there_is_no_new_ticket(
    browser: Browser, house: House
) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        old = await ticket_id(tab)
        lease, _ = await sale.admit()
        await sale.reserve(lease, old)
        dropping = True

        async def drop(route: Any) -> None:
            await (route.abort() if dropping else route.continue_())

        await tab.page.route(f"**/sales/{sale.id}/tickets/*", drop)
        await sale.release(old, reason="not_writable")
        await tab.sees("could not be written down")
        assert await sale.room.readmit(sale.id, old) == "READMITTED"
        await tab.page.click("#again")
        await tab.sees("No connection at the moment")
        dropping = False
        await tab.sees("The shop has put you back at your old place")
        tab.faults.clear()
