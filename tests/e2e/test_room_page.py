"""The pages in a real browser: the room from form to outcome, through reloads and lost connections; docs."""

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.async_api import Browser, Route, expect

from fairline.ids import readmission_of
from tests.support.browser import Tab, a_tab
from tests.support.gateway import TOKEN_KEYS, a_gateway
from tests.support.in_a_browser import House, a_visit, heads, join, open_sale, ticket_id
from tests.support.listeners import a_notifier
from tests.support.rebuilt import rebuilt
from tests.support.recovering import show
from tests.support.sale import SaleDriver
from tests.support.stack import eventually, servers


async def spoil_the_token(tab: Tab, sale_id: str) -> None:
    """As if the key that signed it was dropped."""
    await tab.page.evaluate(
        """name => {
            const mine = JSON.parse(localStorage.getItem(name));
            mine.ticket.token = mine.ticket.token.slice(0, -8) + "AAAAAAAA";
            localStorage.setItem(name, JSON.stringify(mine));
        }""",
        f"fairline:{sale_id}",
    )


async def test_a_buyer_joins_sees_the_line_move_and_gets_it(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api, message="Welcome to all", per_buyer_limit=2)
    others = await sale.join("bert", "carl")
    async with a_visit(browser, house.api, sale.id) as tab:
        await tab.sees("Welcome to all")
        await tab.accessible()
        await join(tab)
        await expect(tab.page.locator("#position")).to_have_text("3")
        await expect(tab.page.locator("#ahead")).to_have_text("2")
        await tab.accessible()
        lease, grant = await sale.admit(2)
        assert grant.ids == others
        await expect(tab.page.locator("#position")).to_have_text("1")
        await sale.decline(lease, *others)
        mine = await ticket_id(tab)
        lease, grant = await sale.admit()
        assert grant.ids == [mine]
        await heads(tab, "It is your turn")
        await sale.reserve(lease, mine)
        await heads(tab, "Set aside for you")
        await tab.sees("counts as bought once that is done")
        await sale.confirm(mine)
        await heads(tab, "You have it")
        await expect(tab.page.locator("#what")).to_contain_text("Seat, no. 1")
        await expect(tab.page.locator("#status")).to_have_text("You have it")
        await tab.accessible()
        assert len(tab.sockets) == 1


async def test_a_reload_keeps_the_place(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        before = await ticket_id(tab)
        await sale.join("bert", "carl")
        await tab.page.reload()
        await expect(tab.page.locator("#ticket")).to_have_text(before)
        await expect(tab.page.locator("#position")).to_have_text("1")
        assert (await sale.stats()).counts.count("seat:joined") == 1
        assert await sale.count("joined") == 3


async def test_a_reload_before_the_answer_makes_no_second_ticket(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_tab(browser) as tab:
        # The join arrives, its answer does not: the page tries again by itself, and after a reload too.
        dropped, dropping = 0, True

        async def drop(route: Any) -> None:
            nonlocal dropped
            if not dropping:
                await route.continue_()
                return
            await route.fetch()
            await route.abort()
            dropped += 1

        await tab.page.route("**/tickets", drop)
        await tab.page.goto(f"{house.api.url}/room/{sale.id}")
        await tab.page.fill("#buyer", "anna")
        await tab.page.click("#go")
        await tab.sees("No connection at the moment")
        await eventually(lambda: dropped >= 2)
        dropping = False
        await tab.page.reload()
        await heads(tab, "You are in line")
        await expect(tab.page.locator("#position")).to_have_text("1")
        assert await sale.count("joined") == 1


async def test_a_place_that_grows_since_others_came_back_after_a_loss_is_told_as_it_is(
    browser: Browser, house: House
) -> None:
    sale = await open_sale(house.api)
    others = [await sale.ticket(each) for each in await sale.join("bert", "carl")]
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        place = tab.page.locator("#position")
        await expect(place).to_have_text("3")
        await rebuilt(sale, *(each.ticket_id for each in others), found=0)
        await expect(place).to_have_text("1")
        for back, says in zip(others, ("2", "3"), strict=True):
            assert await show(sale, back) is not None
            await expect(place).to_have_text(says)
        lease, _ = await sale.admit(1)
        await expect(place).to_have_text("2")
        assert await sale.give_back(lease, others[0].ticket_id) == ["WAITING"]


@pytest.mark.parametrize("how", ["reload", "again"])
async def test_s2_a_buyer_whose_order_failed_is_told_why_and_sees_the_new_ticket(
    browser: Browser, house: House, how: str
) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        old = await ticket_id(tab)
        pressed = asyncio.Event()

        async def once_pressed(route: Route) -> None:
            await pressed.wait()
            await route.continue_()

        if how == "again":  # the page asks by itself too, and there is nothing to press when that was first
            await tab.page.route("**/tickets/*", once_pressed)
        lease, _ = await sale.admit()
        await sale.reserve(lease, old)
        await sale.release(old, reason="not_writable")
        await tab.sees("could not be written down")
        await tab.sees("The shop may put you back at your old place")
        await tab.accessible()
        await sale.join("bert")
        assert await sale.room.readmit(sale.id, old) == "READMITTED"
        await (tab.page.reload() if how == "reload" else tab.page.click("#again"))
        pressed.set()
        await tab.sees("The shop has put you back at your old place")
        await expect(tab.page.locator("#position")).to_have_text("1")
        new = await ticket_id(tab)
        assert new == readmission_of(sale.id, old)
        lease, grant = await sale.admit(1)
        assert grant.ids == [new]
        await sale.reserve(lease, new)
        await sale.confirm(new)
        await heads(tab, "You have it")


async def test_who_says_that_fewer_will_do_is_told_how_many_there_were(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api, stock=2, per_buyer_limit=3)
    async with a_visit(browser, house.api, sale.id) as tab:
        await tab.page.select_option("#quantity", "3")
        await tab.page.check("#fewer")
        await tab.accessible()
        await join(tab)
        await expect(tab.page.locator("#what")).to_contain_text("3 ")
        lease, grant = await sale.admit()
        await sale.reserve(lease, *grant.ids)
        await sale.confirm(*grant.ids)
        await heads(tab, "You have it")
        await expect(tab.page.locator("#what")).to_contain_text("Seat, no. 1, 2 (you asked for 3)")


async def test_without_a_websocket_the_page_asks(browser: Browser, redis_url: str) -> None:
    async with a_gateway(redis_url) as api:  # its notifier is not there
        sale = await open_sale(api)
        async with a_tab(browser) as tab:
            await tab.page.goto(f"{api.url}/room/{sale.id}")
            await join(tab)
            mine = await ticket_id(tab)
            lease, _ = await sale.admit()
            await heads(tab, "It is your turn")
            await sale.decline(lease, mine, reason="payment_declined")
            await tab.sees("Your order was declined")
            await tab.sees("The payment was declined")
            await tab.page.click("#again")
            await expect(tab.page.locator("#buyer")).to_have_value("anna")
            await tab.page.click("#go")
            await heads(tab, "You are in line")
            assert await ticket_id(tab) != mine


async def test_after_a_lost_websocket_the_page_connects_again(browser: Browser, redis_url: str) -> None:
    async with (
        a_notifier(redis_url, token_keys=TOKEN_KEYS, connection_life_s=1) as notifier,
        a_gateway(redis_url, NOTIFIER_URL=notifier.url) as api,
    ):
        sale = await open_sale(api)
        async with a_visit(browser, api, sale.id) as tab:
            await join(tab)
            await eventually(lambda: len(tab.sockets) >= 2)
            await sale.admit()
            await heads(tab, "It is your turn")


async def test_whoever_shows_a_token_of_a_dropped_key_gets_another_one_by_the_same_request(
    browser: Browser, house: House
) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        mine = await ticket_id(tab)
        await spoil_the_token(tab, sale.id)
        await tab.page.reload()
        await heads(tab, "You are in line")
        await sale.admit()
        await heads(tab, "It is your turn")
        assert await ticket_id(tab) == mine
        assert await sale.count("joined") == 1
        tab.faults.clear()  # the browser tells of the 401


async def test_a_token_that_nothing_brings_back_is_told_once(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        refuse = {"status": 401, "json": {"code": "bad_token"}}
        await tab.page.route(f"**/sales/{sale.id}/tickets/*", lambda route: route.fulfill(**refuse))
        await tab.page.reload()
        await tab.sees("Your place could not be found any more")
        await expect(tab.page.locator("#go")).to_be_visible()
        tab.faults.clear()


async def test_c2_whoever_comes_back_after_the_archive_reads_that_what_was_bought_is_theirs(
    browser: Browser, house: House
) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        await tab.page.goto("about:blank")
        await sale.change("end")
        await sale.close()
        archived = {"status": 410, "json": {"code": "archived"}}
        await tab.page.route(f"**/sales/{sale.id}/tickets/*", lambda route: route.fulfill(**archived))
        await tab.page.goto(f"{house.api.url}/room/{sale.id}")
        await tab.sees("This sale has ended")
        await tab.sees("What you bought is yours")
        tab.faults.clear()


async def test_leaving_asks_first(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        await tab.page.click("#leave")
        await tab.accessible()
        await tab.page.click("#leave-no")
        assert await sale.count("LEFT") == 0
        await tab.page.click("#leave")
        await tab.page.click("#leave-yes")
        await tab.sees("You left the line")
        assert await sale.count("LEFT") == 1


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("sold_out", "Sold out"),
        ("lapsed", "Your turn has passed"),
        ("released", "could not be written down"),
        ("closed", "The sale ended before it was your turn"),
    ],
)
async def test_every_end_is_told_in_words(browser: Browser, house: House, end: str, words: str) -> None:
    sale = await open_sale(house.api, stock=1)
    first = await sale.reserved("bert") if end == "sold_out" else []
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        mine = await ticket_id(tab)
        if end == "sold_out":
            await sale.confirm(*first)
            await sale.sweep()
        elif end == "closed":
            await sale.change("end")
            await sale.close()
        else:
            lease, _ = await sale.admit()
            if end == "lapsed":
                await sale.end_leases(mine)
                await sale.reap(max_tries=1)
            else:
                await sale.reserve(lease, mine)
                await sale.release(mine)
        await tab.sees(words)
        await tab.accessible()


async def test_refusals_are_told_in_words(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api, stock=2)
    await sale.sold("anna")
    async with a_tab(browser) as tab:  # a refusal is an error in the browser's console
        await tab.page.goto(f"{house.api.url}/room/{sale.id}")
        await tab.page.fill("#buyer", "  ")
        await tab.page.click("#go")
        await tab.sees("Please say who you are")
        await tab.page.fill("#buyer", "anna")
        await tab.page.click("#go")
        await tab.sees("You already have as many")
        await tab.accessible()
        await tab.page.fill("#buyer", "bert")
        await tab.page.click("#go")
        await heads(tab, "You are in line")


async def test_whoever_is_in_line_elsewhere_is_sent_there(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    await sale.join("anna")
    async with a_visit(browser, house.api, sale.id) as tab:
        await tab.page.fill("#buyer", "anna")
        await tab.page.click("#go")
        await tab.sees("from another device or browser")


async def test_a_sale_that_opens_later_counts_down_and_opens_by_itself(browser: Browser, house: House) -> None:
    opens_at = datetime.now(UTC) + timedelta(minutes=10)
    sale = SaleDriver(house.api.redis, {"seat": 1}, opens_at=opens_at)
    await sale.create()
    await sale.acknowledge()
    async with a_visit(browser, house.api, sale.id) as tab:
        await tab.sees("Opens in")
        await expect(tab.page.locator("#countdown")).to_contain_text(":")
        await tab.accessible()
        await sale.change("open")
        await tab.sees("Get in line")


async def test_a_paused_sale_says_that_places_are_kept(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id) as tab:
        await join(tab)
        await sale.change("pause")
        await tab.sees("The line is paused")
        await sale.change("resume")
        await heads(tab, "You are in line")


async def test_a_halted_sale_says_that_places_are_kept(browser: Browser) -> None:
    async with (
        servers("redis") as running,
        a_notifier(running.redis_url, token_keys=TOKEN_KEYS) as notifier,
        a_gateway(running.redis_url, NOTIFIER_URL=notifier.url) as api,
    ):
        sale = await open_sale(api)
        async with a_tab(browser) as tab:  # a 503 is an error in the browser's console
            await tab.page.goto(f"{api.url}/room/{sale.id}")
            await join(tab)
            os.kill(running.pid("redis"), signal.SIGKILL)
            await tab.sees("The sale is halted for a moment")
            await heads(tab, "You are in line")
            await tab.accessible()


async def test_an_ended_sale_says_so(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    await sale.change("end")
    async with a_visit(browser, house.api, sale.id) as tab:
        await tab.sees("This sale has ended")
        await tab.accessible()


async def test_an_unknown_room_has_a_friendly_page(browser: Browser, house: House) -> None:
    async with a_tab(browser) as tab:
        await tab.page.goto(f"{house.api.url}/room/no-such-sale")
        await tab.sees("There is no such waiting room")
        await tab.accessible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_room_fits_a_small_phone_in_light_and_dark(browser: Browser, house: House, scheme: str) -> None:
    name = "A very long name of a sale with anextraordinarilylongwordthatdoesnotfitanywhereatall in it"
    sale = await open_sale(house.api, name=name, message="x" * 200, per_buyer_limit=3)
    options = {"viewport": {"width": 320, "height": 568}, "color_scheme": scheme, "reduced_motion": "reduce"}
    async with a_visit(browser, house.api, sale.id, **options) as tab:
        await tab.sees("Get in line")
        assert await tab.fits()
        await tab.accessible()
        await join(tab)
        assert await tab.fits()
        await tab.accessible()
        await tab.page.click("#leave")
        assert await tab.fits()


async def test_without_javascript_the_room_says_what_it_needs(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_visit(browser, house.api, sale.id, java_script_enabled=False) as tab:
        await expect(tab.page.locator("noscript h2")).to_have_text("This page needs JavaScript")
        await expect(tab.page.locator("noscript h2")).to_be_visible()


async def test_the_reader_of_the_interface_needs_nothing_from_elsewhere(browser: Browser, house: House) -> None:
    async with a_tab(browser) as tab:
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url))
        await tab.page.goto(f"{house.api.url}/docs")
        await tab.sees("Join the line")
        assert all(url.startswith((house.api.url, "data:")) for url in asked)
        assert not tab.faults
