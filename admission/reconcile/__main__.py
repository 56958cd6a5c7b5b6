"""One comparison by hand: ``python -m admission.reconcile SALE [--repair]``, with the settings of admission.

Prints what was found as JSON; ``fairline reconcile`` shows it to a person. Exit code 2 where it could not compare.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import aiohttp
import msgspec

from admission.reconcile.census import Census
from admission.reconcile.comparison import Comparison, Finding, UnknownSaleError, finding
from admission.records import Records
from admission.settings import AdmissionSettings
from admission.stock import Stock
from fairline.errors import FencedError, UnavailableError
from fairline.events import ORDERS, OrderPlaced
from fairline.runtime.settings import SettingsError, load
from fairline.store.client import connect
from fairline.store.room import Room
from fairline.stream.scan import scan

MOST_ORDERS: Final = 500_000  # read from Kafka; with more it cannot say that one is lost
SCAN_S: Final = 60.0


async def reconcile(settings: AdmissionSettings, sale_id: str, *, repair: bool) -> list[Finding]:
    """Compare, and mend if asked to. Raises ``UnavailableError``, ``FencedError`` and ``UnknownSaleError``."""
    redis = connect(settings.redis_url, name="fairline-reconcile", timeout_s=settings.redis_timeout_s)

    async def on_kafka() -> set[str] | None:
        found = await scan(settings.kafka, [ORDERS], "fairline-reconcile", starts={}, most=MOST_ORDERS, within_s=SCAN_S)
        facts = (record.fact for record in found.records)
        return {fact.ticket_id for fact in facts if isinstance(fact, OrderPlaced)} if found.complete else None

    try:
        async with aiohttp.ClientSession() as session:
            skus = await Room(redis).skus(sale_id)
            if skus is None:
                raise UnknownSaleError(f"Redis does not know a sale {sale_id}.")
            comparison = Comparison(
                Census(redis, sale_id, skus),
                Stock(redis, sale_id, skus),
                Records(session, settings.order_service_url),
            )
            found = await comparison.differences()
            lost = [finding(each) for each in await comparison.lost_orders(on_kafka)]
            return (await comparison.repair(found) if repair else [finding(each) for each in found]) + lost
    finally:
        await redis.aclose()


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    repair = "--repair" in arguments
    sales = [each for each in arguments if each != "--repair"]
    if len(sales) != 1 or sales[0].startswith("-"):
        return _refuse("usage: python -m admission.reconcile SALE [--repair]")
    try:
        found = asyncio.run(reconcile(load(AdmissionSettings), sales[0], repair=repair))
    except FencedError:
        return _refuse(f"{sales[0]} is halted: it is being recovered. Compare it when that is done.")
    except (SettingsError, UnavailableError, UnknownSaleError) as error:
        return _refuse(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    return 0


def _refuse(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
