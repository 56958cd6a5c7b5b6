"""Compares a sale in Redis with the same sale in Postgres and on Kafka, and mends what is safe to mend.

A difference is what two looks, some time apart, both show: what is under way differs in the second one. Mending asks
Redis once more in one script, then Postgres, then mends in another script that asks again (see ``mend.lua``). Nothing
is owned and nothing is locked: several may compare and mend at once, while the sale goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from admission.reconcile.census import Census, WordsReply
from admission.reconcile.differences import KINDS, Difference, Ledger, differences, refuted, without_verdict
from admission.records import Ended, Records
from admission.stock import Stock, Verdict
from fairline.errors import FairlineError

APART_S: Final = 2.0  # between two looks: a result is usually carried out within a tenth of that
FAULTS: Final = 200  # mended in one call

OrdersOnKafka = Callable[[], Awaitable[set[str] | None]]


class UnknownSaleError(FairlineError):
    """Postgres does not know this sale, so there is nothing to compare it with."""


class Finding(msgspec.Struct, frozen=True):
    """A difference, how it may have come, and what became of it.

    ``done``: ``mended``; ``gone`` by the time it was to be mended; ``can be mended`` with ``--repair``; or ``left``.
    """

    difference: Difference
    cause: str
    remedy: str
    done: str


class Comparison:
    """Of one sale. Costs a read of all its tickets in Redis, and of all that ended in Postgres, for each look."""

    def __init__(self, census: Census, stock: Stock, records: Records, *, apart_s: float = APART_S) -> None:
        self._census = census
        self._stock = stock
        self._records = records
        self._apart_s = apart_s

    async def differences(self) -> list[Difference]:
        """What both looks show, sorted; nothing of a sale that is being archived, whose tickets leave Redis.

        Raises ``UnavailableError``, ``FencedError`` and ``UnknownSaleError``.
        """
        first = {each.who for each in await self._look()}
        if not first:
            return []
        await asyncio.sleep(self._apart_s)
        second = await self._look()
        return [] if await self._census.leaving() else sorted(each for each in second if each.who in first)

    async def lost_orders(self, on_kafka: OrdersOnKafka) -> list[Difference]:
        """Orders that Redis holds and nobody else has: neither the outbox, nor Kafka, nor Postgres.

        ``on_kafka`` reads the tickets of all orders there, or gives nothing where it could not read to the end; then
        nothing is said. Both are asked after Redis, so an order that is on its way is found in one of them.
        """
        account = await self._census.account()
        in_outbox = await self._census.orders_in_outbox()
        there = await on_kafka()
        if there is None:
            return []
        return sorted(without_verdict(account, await self._ledger(), in_outbox | there))

    async def repair(self, found: Sequence[Difference]) -> list[Finding]:
        """Mend what is safe, a few hundred at a time. A second call finds it gone."""
        done: dict[Difference, str] = {}
        by_script = [each for each in found if KINDS[each.kind].safe and each.kind != "verdict_unsettled"]
        for at in range(0, len(by_script), FAULTS):
            done.update(await self._mend(by_script[at : at + FAULTS]))
        unsettled = [each for each in found if each.kind == "verdict_unsettled"]
        if unsettled:
            rows = (await self._ledger()).rows
            verdicts = [_verdict(rows[each.subject]) for each in unsettled]
            for at in range(0, len(verdicts), FAULTS):
                await self._stock.settle(verdicts[at : at + FAULTS])
            done.update(dict.fromkeys(unsettled, "mended"))
        return [finding(each, done.get(each, "left")) for each in found]

    async def _mend(self, faults: Sequence[Difference]) -> dict[Difference, str]:
        done = dict.fromkeys(faults, "gone")
        looked = await self._census.mend(faults)
        standing = _those(faults, looked, "STANDS")
        if standing:
            wrong = refuted(standing, await self._ledger())
            standing = [each for each in standing if each not in wrong]
            mended = await self._census.mend(standing, epoch=looked.epoch)
            done.update(dict.fromkeys(_those(standing, mended, "MENDED"), "mended"))
        return done

    async def _look(self) -> set[Difference]:
        account = await self._census.account()
        ledger = await self._ledger()
        account.others = await self._census.states(ledger.rows.keys() - account.tickets.keys())
        # In a thread, because it takes a second for a hundred thousand tickets, and other work goes on.
        return await asyncio.to_thread(differences, account, ledger) | set(await self._census.balance())

    async def _ledger(self) -> Ledger:
        known = await self._records.known(self._census.sale_id)
        if known is None:
            raise UnknownSaleError
        rows = {each.ticket_id: each async for each in self._records.ended(self._census.sale_id)}
        return Ledger(rows, {item.sku: item.high for item in known.sale.items})


def finding(difference: Difference, done: str | None = None) -> Finding:
    """With its explanation; ``done`` where something was tried."""
    kind = KINDS[difference.kind]
    return Finding(difference, kind.cause, kind.remedy, done or ("can be mended" if kind.safe else "left"))


def _verdict(row: Ended) -> Verdict:
    if row.sold is not None:
        return Verdict(row.ticket_id, "confirm", row.sold.units, row.sold.slots, "")
    return Verdict(row.ticket_id, "release", (), (), row.reason)


def _those(faults: Sequence[Difference], reply: WordsReply, word: str) -> list[Difference]:
    return [each for each, said in zip(faults, reply.words, strict=True) if said == word]
