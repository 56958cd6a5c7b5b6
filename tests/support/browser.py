"""A real browser for the tests of the pages; where none can be had, a skip on a laptop and a failure in CI."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.stack import PATIENCE_S, cannot_be_had

RULES: Final = {"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]}


def chromium() -> str:
    """The program, or the end of the test."""
    if os.environ.get("FAIRLINE_TEST_WITHOUT_BROWSER"):
        pytest.skip("FAIRLINE_TEST_WITHOUT_BROWSER is set")
    given = os.environ.get("FAIRLINE_TEST_CHROMIUM")
    found = given or shutil.which("chromium-headless-shell") or shutil.which("chromium")
    return found or cannot_be_had("no chromium: make browser")


@asynccontextmanager
async def a_browser() -> AsyncIterator[Browser]:
    """One that is closed in the end. Root cannot have the sandbox; only our own pages are opened."""
    program = chromium()
    expect.set_options(timeout=PATIENCE_S * 1000)  # 5 s otherwise
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, chromium_sandbox=os.geteuid() != 0)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Tab:
    """A page, and everything it complained of."""

    page: Page
    faults: list[str] = field(default_factory=list)
    sockets: list[Any] = field(default_factory=list)

    async def accessible(self) -> None:
        """Fail where axe finds a breach of WCAG 2.2 AA."""
        found = (await Axe().run(self.page, options=RULES)).response["violations"]
        assert not found, [(each["id"], each["nodes"][0]["target"]) for each in found]

    async def sees(self, text: str, *, within_s: float = PATIENCE_S) -> None:
        """Wait until this text can be seen."""
        await self.page.get_by_text(text, exact=False).locator("visible=true").first.wait_for(timeout=within_s * 1000)

    async def fits(self) -> bool:
        """Whether nothing has to be scrolled sideways."""
        width: int = await self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return width <= 0


@asynccontextmanager
async def a_tab(browser: Browser, **options: Any) -> AsyncIterator[Tab]:
    """A page in a context of its own (no storage shared with others)."""
    context = await browser.new_context(**options)
    tab = Tab(await context.new_page())
    tab.page.on("pageerror", lambda error: tab.faults.append(str(error)))
    tab.page.on("console", lambda said: tab.faults.append(said.text) if said.type == "error" else None)
    tab.page.on("websocket", lambda socket: tab.sockets.append(socket))  # noqa: PLW0108 - playwright marks it
    try:
        yield tab
    finally:
        await context.close()
