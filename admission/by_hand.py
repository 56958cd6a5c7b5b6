"""A rebuild by hand: ``python -m admission.by_hand SALE [--yes]``, with the settings of admission.

Without ``--yes`` it reads what a rebuild reads, works out what would be written, and writes nothing. With it, a sale
that runs is halted first. Prints JSON; ``fairline recover`` shows it to a person. Exit code 2 where it could not.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import msgspec

from admission.records import Records
from admission.recovery import LostHoldError, Recovery
from admission.settings import AdmissionSettings
from fairline.errors import FairlineError, FencedError, UnavailableError
from fairline.ids import SaleId
from fairline.runtime.settings import SettingsError, load
from fairline.store.client import connect
from fairline.store.room import Room
from fairline.store.sales import Sales


class UnknownSaleError(FairlineError):
    """Postgres does not know this sale, so there is nothing to rebuild it from."""

    code = "unknown_sale"


class ArchivedSaleError(FairlineError):
    """This sale is archived: its tickets are in Postgres for good, and there is nothing to rebuild."""

    code = "archived"


_REFUSED: Final = (UnavailableError, UnknownSaleError, ArchivedSaleError, LostHoldError)


async def recover(settings: AdmissionSettings, sale_id: str, *, really: bool) -> dict[str, Any]:
    """What is, or would be, done. Raises one of ``_REFUSED``."""
    try:
        msgspec.convert(sale_id, SaleId)
    except msgspec.ValidationError:
        raise UnknownSaleError from None
    redis = connect(settings.redis_url, name="fairline-recover", timeout_s=settings.redis_timeout_s)
    try:
        async with aiohttp.ClientSession() as session:
            sales, records = Sales(Room(redis)), Records(session, settings.order_service_url)
            known = await records.known(sale_id)
            if known is None:
                raise UnknownSaleError
            if known.sale.state == "archived":
                raise ArchivedSaleError
            attempt = Recovery(redis, records, settings.kafka, known, drain_s=settings.recover_drain_s)
            halted = await _is_halted(sales, sale_id)
            if really:
                await sales.halt(sale_id, "an operator asked for it")
                if not await attempt.claim():
                    raise LostHoldError("a controller is rebuilding this sale already")
                try:
                    what = await attempt.run()
                except BaseException:
                    await attempt.let_go(again_s=0)
                    raise
            else:
                what = await attempt.rehearse()
            return {
                "sale_id": sale_id,
                "done": really,
                "halted": halted,
                "epoch": attempt.epoch,
                **{kind: what[kind] for kind in ("verdicts", "restored", "overruled", "kept", "in_line")},
                "free": attempt.free,
            }
    finally:
        await redis.aclose()


async def _is_halted(sales: Sales, sale_id: str) -> bool:
    try:
        return await sales.get(sale_id) is None  # lost altogether
    except FencedError:
        return True


def main(arguments: Sequence[str]) -> int:
    """The exit code."""
    named = [each for each in arguments if each != "--yes"]
    if len(named) != 1 or named[0].startswith("-"):
        return _refuse("usage: python -m admission.by_hand SALE [--yes]")
    try:
        done = asyncio.run(recover(load(AdmissionSettings), named[0], really="--yes" in arguments))
    except (SettingsError, *_REFUSED) as error:
        return _refuse(str(error))
    sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
    return 0


def _refuse(why: str) -> int:
    sys.stderr.write(f"{why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
