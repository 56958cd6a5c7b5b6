"""A browser for the tests of the pages, and what they are served by."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from tests.support.browser import a_browser
from tests.support.gateway import TOKEN_KEYS, a_gateway
from tests.support.in_a_browser import House
from tests.support.listeners import a_notifier


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with a_browser() as one:
        yield one


@pytest.fixture(scope="module")
async def house(redis_url: str) -> AsyncIterator[House]:
    async with (
        a_notifier(redis_url, token_keys=TOKEN_KEYS, tick_ms=50) as notifier,
        a_gateway(redis_url, NOTIFIER_URL=notifier.url) as api,
    ):
        yield House(api, notifier)
