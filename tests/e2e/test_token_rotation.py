"""Token keys are rotated under open tickets: two gateways and two notifiers, restarted one by one, refuse nobody."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from redis.asyncio import Redis

from fairline.frames import CloseCode
from fairline.store.client import connect
from tests.support.gateway import Api, a_gateway
from tests.support.listeners import Listener, RunningNotifier, a_notifier
from tests.support.sale import SaleDriver

OLD, NEW = "k1:0123456789abcdef0123456789abcdef", "k2:fedcba9876543210fedcba9876543210"
PAIR = range(2)


@dataclass
class Pairs:
    """Copies that are replaced one at a time, and the tickets that buyers hold meanwhile."""

    redis_url: str
    sale: SaleDriver
    gateways: dict[int, Api] = field(default_factory=dict)
    notifiers: dict[int, RunningNotifier] = field(default_factory=dict)
    held: list[dict[str, Any]] = field(default_factory=list)
    _buyers: Iterator[int] = field(default_factory=itertools.count)
    _running: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def restart(self, part: str, copy: int, keys: str) -> None:
        """Stop this copy, if it runs, and start it with these keys."""
        name = f"{part}-{copy}"
        if name in self._running:
            await self._running.pop(name).aclose()
        stack = AsyncExitStack()
        if part == "gateway":
            self.gateways[copy] = await stack.enter_async_context(a_gateway(self.redis_url, TOKEN_KEYS=keys))
        else:
            self.notifiers[copy] = await stack.enter_async_context(a_notifier(self.redis_url, token_keys=keys))
        self._running[name] = stack

    async def roll(self, keys: str) -> None:
        """Give these keys to every copy, one after the other; after each, everybody is still let in."""
        for part in ("gateway", "notifier"):
            for copy in PAIR:
                await self.restart(part, copy, keys)
                await self.everybody_joins_and_is_let_in()

    async def everybody_joins_and_is_let_in(self) -> None:
        """A new ticket from each gateway; then every ticket so far at every gateway and every notifier."""
        for api in self.gateways.values():
            buyer = f"buyer-{next(self._buyers)}"
            joined = await api.join(self.sale.id, buyer, request=buyer)
            assert joined.status == 202, joined.body
            self.held.append(joined.json)
        for ticket in self.held:
            for api in self.gateways.values():
                assert await status(api, ticket) == 200
            for notifier in self.notifiers.values():
                assert (await first_frame(notifier, ticket))["ticket_id"] == ticket["ticket_id"]

    async def close(self) -> None:
        """Stop every copy."""
        for stack in self._running.values():
            await stack.aclose()


async def status(api: Api, ticket: dict[str, Any]) -> int:
    path = f"/sales/{sale_of(ticket)}/tickets/{ticket['ticket_id']}"
    return (await api.call("GET", path, key=ticket["token"])).status


def sale_of(ticket: dict[str, Any]) -> str:
    return str(ticket["status_url"].split("/")[4])


async def first_frame(notifier: RunningNotifier, ticket: dict[str, Any]) -> dict[str, Any]:
    async with Listener.to(notifier.at(sale_of(ticket), ticket["ticket_id"]), ticket["token"]) as buyer:
        return await buyer.ticket()


def kid(ticket: dict[str, Any]) -> str:
    return str(jwt.get_unverified_header(ticket["token"])["kid"])


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect(redis_url, name="test")
    yield client
    await client.aclose()


@asynccontextmanager
async def pairs_of(redis_url: str, redis: Redis) -> AsyncIterator[Pairs]:
    sale = await SaleDriver.opened(redis, 3)
    pairs = Pairs(redis_url, sale)
    try:
        for copy in PAIR:
            await pairs.restart("gateway", copy, OLD)
            await pairs.restart("notifier", copy, OLD)
        yield pairs
    finally:
        await pairs.close()
        await sale.remove()


async def test_a_rotation_in_three_steps_refuses_nobody(redis_url: str, redis: Redis) -> None:
    async with pairs_of(redis_url, redis) as pairs:
        await pairs.everybody_joins_and_is_let_in()
        first = pairs.held[0]
        async with Listener.to(pairs.notifiers[0].at(pairs.sale.id, first["ticket_id"]), first["token"]) as connected:
            await connected.ticket("WAITING")
            await pairs.roll(f"{OLD},{NEW}")
            # Whoever was connected is told to come back, and does so with the same token.
            assert await connected.closed() == CloseCode.GOING_AWAY
        assert {kid(ticket) for ticket in pairs.held} == {"k1"}, "the new key signed before everybody knew it"
        signed_by_old = len(pairs.held)
        await pairs.roll(f"{NEW},{OLD}")
        assert {kid(ticket) for ticket in pairs.held[signed_by_old:]} == {"k1", "k2"}
        assert {kid(ticket) for ticket in pairs.held[-2:]} == {"k2"}
        counted = pairs.gateways[0].gateway.metrics.registry.get_sample_value
        assert counted("fairline_token_key", {"kid": "k2"}) == 1
        assert counted("fairline_token_key", {"kid": "k1"}) == 0
        # What decides about the last step: are tokens of the old key still used?
        assert counted("fairline_tokens_checked_total", {"kid": "k1"})
        assert pairs.notifiers[0].count("fairline_tokens_checked_total", kid="k1")
        # Tickets of the old key are over; the last step refuses nobody who holds another.
        dropped = [ticket for ticket in pairs.held if kid(ticket) == "k1"]
        pairs.held = [ticket for ticket in pairs.held if kid(ticket) == "k2"]
        await pairs.roll(NEW)
        for copy in PAIR:
            assert await status(pairs.gateways[copy], dropped[0]) == 401
            at = pairs.notifiers[copy].at(pairs.sale.id, dropped[0]["ticket_id"])
            async with Listener.to(at, dropped[0]["token"]) as late:
                assert await late.closed() == CloseCode.BAD_TOKEN


async def test_a_key_that_must_go_at_once_costs_nobody_a_place(redis_url: str, redis: Redis) -> None:
    async with pairs_of(redis_url, redis) as pairs:
        await pairs.everybody_joins_and_is_let_in()
        for copy in PAIR:
            await pairs.restart("gateway", copy, NEW)
        for at, ticket in enumerate(pairs.held):
            assert await status(pairs.gateways[0], ticket) == 401
            again = await pairs.gateways[0].join(pairs.sale.id, f"buyer-{at}", request=f"buyer-{at}")
            assert (again.status, again.json["arrival"], kid(again.json)) == (200, ticket["arrival"], "k2")
            assert await status(pairs.gateways[1], again.json) == 200
