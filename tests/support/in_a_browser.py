"""What the tests of the pages do as a buyer does it, in a browser."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from playwright.async_api import Browser, expect

from tests.support.browser import Tab, a_tab
from tests.support.gateway import Api
from tests.support.listeners import RunningNotifier
from tests.support.sale import SaleDriver


@dataclass
class House:
    """A gateway and a notifier on one Redis."""

    api: Api
    notifier: RunningNotifier


async def open_sale(api: Api, stock: int = 3, **more: Any) -> SaleDriver:
    """One that is open, of seats and a box."""
    return await SaleDriver.opened(api.redis, {"seat": stock, "box": 1}, **more)


@asynccontextmanager
async def a_visit(browser: Browser, api: Api, sale_id: str, **options: Any) -> AsyncIterator[Tab]:
    """A window with the room of a sale, which complains of nothing until the end."""
    async with a_tab(browser, **options) as tab:
        await tab.page.goto(f"{api.url}/room/{sale_id}")
        yield tab
        assert not tab.faults


async def join(tab: Tab, buyer: str = "anna") -> None:
    """Fill the form in and send it."""
    await tab.page.fill("#buyer", buyer)
    await tab.page.click("#go")
    await heads(tab, "You are in line")


async def ticket_id(tab: Tab) -> str:
    """The ticket that is shown."""
    return str(await tab.page.locator("#ticket").inner_text())


async def heads(tab: Tab, words: str) -> None:
    """Wait until these words, and no others, are over the ticket: in the text below it many of them come up too."""
    await expect(tab.page.locator("#state")).to_have_text(words, timeout=15_000)
