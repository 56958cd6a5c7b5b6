"""Each of these saboteurs sells to real buyers, and the checker finds from outside which guarantee it broke."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from fairline.demo.scenario import Scenario
from loadtest.report import Finding
from tests.saboteurs.conftest import Copy
from tests.saboteurs.table import BY_THE_CHECKER, Saboteur
from tests.support.sale import a_name
from tests.support.stack import PATIENCE_S, FullStack
from tests.support.trouble import QUICK, Scene, all_ready, hold, release

pytestmark = pytest.mark.timeout(300)

PACED = 6  # "never faster than told"
SLOW = 4.0  # tickets a second, far below what a busy machine comes to without a pace
SERVICES = ("gateway", "admission", "order_service", "notifier")
# A first opening waits until Kafka has its groups; many dead letters are no reason to stop, for they are meant here.
PATIENT = {
    "FAIRLINE_GATEWAY_ACKNOWLEDGE_S": "20",
    "FAIRLINE_ORDER_SERVICE_DEAD_LETTERS_IN_A_ROW": "1000",
    "FAIRLINE_ORDER_SERVICE_DEAD_LETTERS_SHARE": "1",
}
# The orders of some buyers can never be written: a sale in which all goes well would hide who promises too early.
POISON = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $poison$ BEGIN
    IF NEW.verdict = 'confirmed' AND hashtext(NEW.buyer_id) % 4 = 0 THEN
        RAISE EXCEPTION 'this order is poison' USING ERRCODE = '22000';
    END IF;
    RETURN NEW;
END $poison$;
CREATE TRIGGER poison BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION poison();
"""


@pytest.fixture(scope="module")
async def stack(copy: Copy) -> AsyncIterator[FullStack]:
    """Whose services run the copy, as it is whenever they start."""
    async with FullStack(environ=QUICK | PATIENT | copy.environ) as stack:
        postgres = await asyncpg.connect(stack.info["postgres_dsn"], timeout=10, command_timeout=10)
        await postgres.execute(POISON)
        await postgres.close()
        await all_ready(stack)
        yield stack


async def started_anew(stack: FullStack, saboteur: Saboteur) -> None:
    """Those processes that run the line."""
    home = saboteur.file.partition("/")[0]
    for do in (hold, release):
        await asyncio.gather(*(do(stack, name) for name in SERVICES if home in (name, "fairline")))
    await all_ready(stack)


async def found_in_a_sale(
    stack: FullStack, *, give_up_s: float, quiet_within_s: float, rate_per_s: float = 25.0
) -> list[Finding]:
    """What the checker says of a small sale that was given its time to come to rest, which it may never do."""
    scenario = Scenario(
        sale_id=a_name(of="sabotaged"),
        seed=4,
        buyers=40,
        requests=160,
        items=2,
        stock=10,
        rate_per_s=rate_per_s,
        capacity=40,
    )
    async with Scene(stack, scenario, over_s=0.5, give_up_s=give_up_s) as scene:
        return (await scene.evidence(quiet_within_s=quiet_within_s)).findings()


async def test_without_them_all_eight_hold(stack: FullStack) -> None:
    found = await found_in_a_sale(stack, give_up_s=PATIENCE_S, quiet_within_s=PATIENCE_S)
    assert [finding.verdict for finding in found] == ["ok"] * 8, "\n".join(map(str, found))


@pytest.mark.parametrize("saboteur", BY_THE_CHECKER, ids=lambda each: each.name.replace(" ", "-"))
async def test_it_is_caught(stack: FullStack, copy: Copy, saboteur: Saboteur) -> None:
    with copy.sabotaged(saboteur):
        await started_anew(stack, saboteur)
        rate_per_s = SLOW if saboteur.caught_by == PACED else 25.0
        found = await found_in_a_sale(stack, give_up_s=12, quiet_within_s=3, rate_per_s=rate_per_s)
    await started_anew(stack, saboteur)
    violated = {finding.number for finding in found if finding.verdict == "violated"}
    assert saboteur.caught_by in violated, "\n".join(map(str, found))
