"""The console in a real browser: what an operator sees, types and presses, and what comes of it."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import Tab, a_tab
from tests.support.gateway import FIRST_KEY, Api
from tests.support.in_a_browser import House, open_sale


async def test_the_console_shows_and_steers_a_sale(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    await sale.join("anna", "bert")
    async with a_tab(browser, viewport={"width": 360, "height": 740}) as tab:
        page = tab.page
        await page.goto(f"{house.api.url}/console")
        await tab.accessible()
        await page.fill("#key", "not the key of anybody at all")
        await page.click("#enter")
        await tab.sees("No operator has this key")
        await page.fill("#key", FIRST_KEY)
        await page.click("#enter")
        await page.locator("#rows tr").first.wait_for()
        await tab.accessible()
        await page.goto(f"{house.api.url}/console#{sale.id}")
        await tab.sees("A sale of a test")
        await expect(page.locator("#totals")).to_contain_text("waiting2")
        await tab.accessible()
        assert await tab.fits()
        await page.click("[data-act=pause]")
        await expect(page.locator("#state")).to_have_text("paused")
        await page.fill("#rate", "2,5")
        await page.fill("#said", "one\ntwo")
        await page.click("#pace button")
        await tab.sees("Set.")
        seen = await sale.look()
        assert (seen.meta["state"], seen.meta["rate"], seen.meta["message"]) == ("paused", "2.5", "one\ntwo")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.click("[data-act=end]")
        await expect(page.locator("#state")).to_have_text("ended")


async def sign_in(tab: Tab, api: Api, sale_id: str) -> None:
    await tab.page.goto(f"{api.url}/console#{sale_id}")
    await tab.page.fill("#key", FIRST_KEY)
    await tab.page.click("#enter")
    await expect(tab.page.locator("#id")).to_have_text(sale_id)


async def refreshed(tab: Tab, times: int = 2) -> None:
    """Wait until the console has read the sale again so often."""
    for _ in range(times):
        async with tab.page.expect_response("**/stats"):
            pass


@pytest.mark.parametrize("typed", ["5/s", "1,000", "1 000", "1e400", "Infinity", "-"])
async def test_the_console_takes_what_is_no_number_for_no_number_rather_than_for_no_limit(
    browser: Browser, house: House, typed: str
) -> None:
    sale = await open_sale(house.api, rate_per_s=2, capacity=7)
    async with a_tab(browser) as tab:
        await sign_in(tab, house.api, sale.id)
        for field in ("rate", "capacity"):
            await expect(tab.page.locator("#rate")).to_have_value("2")
            await tab.page.fill(f"#{field}", typed)
            await tab.page.click("#pace button")
            await tab.sees(f"“{typed}” is no")
            await tab.page.fill(f"#{field}", {"rate": "2", "capacity": "7"}[field])
        seen = (await sale.look()).meta
        assert (seen["rate"], seen["capacity"]) == ("2.0", "7")
        assert not tab.faults


async def test_the_console_keeps_saying_why_a_change_was_refused(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api, rate_per_s=2)
    async with a_tab(browser) as tab:
        await sign_in(tab, house.api, sale.id)
        await tab.page.fill("#rate", "0")
        await tab.page.click("#pace button")
        await tab.sees("rate_per_s")
        await refreshed(tab)
        await tab.sees("rate_per_s", within_s=1)
        await tab.accessible()


async def test_the_console_sets_only_what_was_changed_in_it(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api, rate_per_s=2)
    async with a_tab(browser) as tab:
        await sign_in(tab, house.api, sale.id)
        await expect(tab.page.locator("#rate")).to_have_value("2")
        await tab.page.fill("#said", "Hello")  # and meanwhile somebody else slows the sale
        await sale.patch(rate_per_s=1)
        await refreshed(tab)
        await tab.page.click("#pace button")
        await tab.sees("Set.")
        seen = (await sale.look()).meta
        assert (seen["rate"], seen["message"]) == ("1.0", "Hello")
        await expect(tab.page.locator("#rate")).to_have_value("1")
        assert not tab.faults


async def test_the_console_shows_no_answer_of_a_sale_that_was_left_meanwhile(browser: Browser, house: House) -> None:
    one, other = await open_sale(house.api, rate_per_s=2), await open_sale(house.api, rate_per_s=5)
    async with a_tab(browser) as tab:
        await sign_in(tab, house.api, one.id)
        answered = asyncio.Event()

        async def late(route: Any) -> None:
            answer = await route.fetch()
            await answered.wait()
            await route.fulfill(response=answer)

        await tab.page.route("**/pause", late)
        await tab.page.click("[data-act=pause]")
        await tab.page.evaluate("id => { location.hash = id; }", other.id)
        await expect(tab.page.locator("#id")).to_have_text(other.id)
        await expect(tab.page.locator("#rate")).to_have_value("5")
        await tab.page.evaluate(
            """() => {
                const id = document.getElementById("id");
                window.seen = [];
                new MutationObserver(() => window.seen.push(id.textContent)).observe(id, {childList: true});
            }"""
        )
        answered.set()
        await refreshed(tab)
        assert one.id not in await tab.page.evaluate("window.seen")
        await expect(tab.page.locator("#rate")).to_have_value("5")
        await expect(tab.page.locator("#done")).to_have_text("")
        assert not tab.faults


async def test_the_console_works_where_the_browser_keeps_nothing(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_tab(browser) as tab:
        await tab.page.add_init_script(
            "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('no'); }})"
        )
        await sign_in(tab, house.api, sale.id)
        await tab.page.goto(f"{house.api.url}/console#%")
        await tab.page.click("#out")
        await tab.page.fill("#key", "a key\u200b")
        await tab.page.click("#enter")
        await tab.sees("That is no key")
        assert not tab.faults


async def test_the_console_leads_back_from_a_sale_that_is_not_there(browser: Browser, house: House) -> None:
    sale = await open_sale(house.api)
    async with a_tab(browser) as tab:
        await sign_in(tab, house.api, sale.id)
        await tab.page.goto(f"{house.api.url}/console#no-such-sale")
        await tab.sees("There is no such sale")
        await tab.accessible()
        await tab.page.click("#back a")
        await tab.page.locator("#rows tr").first.wait_for()
        await expect(tab.page.locator("#trouble")).to_be_hidden()
