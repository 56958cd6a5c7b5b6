"""The table of docs/failures.md, cell by cell: a part is taken away, every call is made, the part comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from functools import partial

import aiohttp
import pytest
from websockets.exceptions import InvalidHandshake

from fairline.sale import Validator
from fairline.states import State
from tests.support.admission import Shop, a_shop
from tests.support.failures import CALLS, FAILURES, NO_ANSWER, Failure
from tests.support.listeners import Listener
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.take_away import WAYS
from tests.support.trouble import Said, ask, missing

NOTICED_WITHIN_S = 60.0
HEALED_WITHIN_S = 90.0


@dataclass(frozen=True)
class Ticket:
    """As its buyer knows it."""

    ticket_id: str
    token: str
    status_url: str
    ws_url: str

    async def state(self) -> str:
        """By the status; the refusal's code where there is one."""
        said = await ask("GET", self.status_url, key=self.token)
        return said.body["state"] if said.status == 200 else said.code


class Calls:
    """What each call answers, in the table's words, about a sale whose line stands and one that sells."""

    def __init__(self, stack: FullStack, shop: Shop) -> None:
        self.url: str = stack.info["gateway_url"]
        self.key: str = stack.info["operator_key"]
        self.standing, self.selling = a_name(of="standing"), a_name(of="selling")
        self.shop = shop
        self.held: Ticket | None = None
        self.leaver: Ticket | None = None

    async def is_open(self, sale_id: str) -> bool:
        """Opens the sale; whether it is open."""
        return (await self.act(sale_id, "open")).status == 200

    async def prepare(self) -> None:
        """While all is well."""
        asks = Validator(kind="http", url=self.shop.url, timeout_ms=500)
        for sale_id, validator in ((self.standing, Validator()), (self.selling, asks)):
            assert (await self.create(sale_id, validator)).status == 201
            await eventually(partial(self.is_open, sale_id))  # asked again until Postgres has it
        assert (await self.act(self.standing, "pause")).status == 200
        self.held, self.leaver = [await self.ticket(self.standing) for _ in range(2)]
        first = await self.ticket(self.selling)
        await eventually(lambda: self.has_come(first, {State.CONFIRMED}))

    async def create(self, sale_id: str, validator: Validator) -> Said:
        body = {
            "sale_id": sale_id,
            "name": "A sale",
            "items": [{"sku": "seat", "name": "Seat", "stock": 50}],
            "validator": {name: getattr(validator, name) for name in ("kind", "url", "timeout_ms")}
            if validator.kind == "http"
            else {"kind": "accept"},
        }
        return await ask("POST", f"{self.url}/admin/sales", key=self.key, body=body)

    async def act(self, sale_id: str, action: str) -> Said:
        return await ask("POST", f"{self.url}/admin/sales/{sale_id}/{action}", key=self.key)

    async def join_sale(self, sale_id: str) -> Said:
        body = {"sku": "seat", "buyer_id": a_name(of="buyer")}
        return await ask("POST", f"{self.url}/sales/{sale_id}/tickets", body=body, idempotency_key=a_name(of="request"))

    async def ticket(self, sale_id: str) -> Ticket:
        """A new one; fails when it is refused."""

        async def joined() -> Said:
            said = await self.join_sale(sale_id)
            assert said.status == 202, said
            return said

        body = (await eventually(joined)).body  # a sale that was opened just now is not_open for a frame
        return Ticket(body["ticket_id"], body["token"], body["status_url"], body["ws_url"])

    async def has_come(self, ticket: Ticket, states: Collection[str]) -> bool:
        state = await ticket.state()
        assert state in states, state
        return True

    # The columns of the table

    async def answer(self, call: str) -> str:
        """What one call answers now."""
        try:
            return str(await getattr(self, f"_{call}")())
        except (aiohttp.ClientConnectionError, ConnectionError, TimeoutError, InvalidHandshake):
            return NO_ANSWER

    async def _sale(self) -> str:
        return word(await ask("GET", f"{self.url}/sales/{self.standing}"))

    async def _join(self) -> str:
        return word(await self.join_sale(self.standing))

    async def _status(self) -> str:
        assert self.held is not None
        return word(await ask("GET", self.held.status_url, key=self.held.token))

    async def _leave(self) -> str:
        assert self.leaver is not None
        return word(await ask("DELETE", self.leaver.status_url, key=self.leaver.token))

    async def _socket(self) -> str:
        assert self.held is not None
        async with Listener.to(self.held.ws_url, self.held.token) as listener:
            frame = await listener.hear(lambda frame: frame["type"] in {"ticket", "progress"})
            return str(frame["state"])

    async def _room(self) -> str:
        return word(await ask("GET", f"{self.url}/room/{self.standing}"))

    async def _read(self) -> str:
        url = f"{self.url}/admin/sales/{self.standing}"
        return both(await ask("GET", url, key=self.key), await ask("GET", f"{url}/stats", key=self.key))

    async def _change(self) -> str:
        url = f"{self.url}/admin/sales/{self.standing}"
        return word(await ask("PATCH", url, key=self.key, body={"message": "Soon."}))

    async def _stock(self) -> str:
        url = f"{self.url}/admin/sales/{self.standing}/items/seat/stock"
        return word(await ask("PUT", url, key=self.key, body={"stock": 60, "version": 1, "reason": "more"}))

    async def _history(self) -> str:
        url = f"{self.url}/admin/sales/{self.standing}"
        return both(await ask("GET", f"{url}/history", key=self.key), await ask("GET", f"{url}/records", key=self.key))


def word(said: Said) -> str:
    """An answer as the table has it; each 503 must say when to come back."""
    if said.status == 503:
        assert (said.retry_after or "").isdecimal(), said
        assert said.code, said
    return f"{said.status} {said.code}".strip()


def both(one: Said, other: Said) -> str:
    """Two calls that share a column."""
    assert word(one) == word(other), (one, other)
    return word(one)


async def lacks(stack: FullStack) -> dict[str, set[str]]:
    """What each service says that it misses, all copies together; those that do not answer are left out."""
    found: dict[str, set[str]] = {}
    for name in stack.info["internal_urls"]:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            if what := await missing(stack, name):
                found.setdefault(name.partition("-")[0], set()).update(what)
    return found


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    """One that sells to everybody, while it answers."""
    async with a_shop() as shop:
        yield shop


@pytest.mark.timeout(300)
@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name.replace(" ", "-").replace(",", ""))
async def test_every_call_answers_what_the_table_says(stack: FullStack, shop: Shop, failure: Failure) -> None:
    calls = Calls(stack, shop)
    await calls.prepare()
    async with WAYS[failure.name](stack, shop):

        async def noticed() -> bool:
            assert await lacks(stack) == failure.missing
            assert await calls.answer("sale") == failure.answers["sale"]
            return True

        await eventually(noticed, within_s=NOTICED_WITHIN_S)
        assert {call: await calls.answer(call) for call in CALLS} == failure.answers
        late: list[Ticket] = []
        if failure.comes_to:
            late.append(await calls.ticket(calls.selling))
            await eventually(partial(calls.has_come, late[0], {failure.comes_to}))
            await asyncio.sleep(1)  # and no further; an undecided ticket goes back to its place
            assert await late[0].state() in {failure.comes_to, State.WAITING if failure.comes_to == "ADMITTED" else ""}
    await eventually(partial(healed, stack, calls), within_s=HEALED_WITHIN_S)
    for each in (*late, await calls.ticket(calls.selling)):
        await eventually(partial(calls.has_come, each, {State.CONFIRMED}), within_s=HEALED_WITHIN_S)


async def healed(stack: FullStack, calls: Calls) -> bool:
    """Nothing is missing, and what needs every part is answered."""
    assert await lacks(stack) == {}
    assert {call: await calls.answer(call) for call in ("sale", "stock", "history")} == dict.fromkeys(
        ("sale", "stock", "history"), "200"
    )
    return True
