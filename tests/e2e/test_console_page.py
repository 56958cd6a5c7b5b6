"""The console in a real browser: what an operator sees, types and presses, and what comes of it."""

from playwright.async_api import Browser, expect

from tests.support.browser import a_tab
from tests.support.gateway import FIRST_KEY
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
