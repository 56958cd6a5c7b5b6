"""Down and up again on the same folder: a sale outlives a clean stop, and is rebuilt after one that was none."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fairline.demo.scenario import Scenario
from fairline.states import State
from tests.support.sale import a_name
from tests.support.stack import FullStack, eventually
from tests.support.trouble import QUICK, Scene, all_ready


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FullStack]:
    """In a folder that is kept over its stops."""
    async with FullStack(environ=QUICK, folder=tmp_path_factory.mktemp("stopped") / "data") as stack:
        yield stack


def a_sale(folder: Path) -> Scenario:
    """So long a line that the stop comes in the middle."""
    return Scenario(
        sale_id=a_name(of="night"),
        seed=len(folder.parts),
        buyers=120,
        requests=300,
        items=2,
        stock=25,
        rate_per_s=4.0,
        name="A night sale",
    )


async def test_a_sale_goes_on_after_a_clean_stop(running: FullStack) -> None:
    async with Scene(running, a_sale(running.folder), over_s=1, give_up_s=60) as scene:
        await scene.confirmed(10, within_s=60)
        assert scene.told()[State.WAITING] > 50
        code, said = await running.cli("down")
        assert code == 0, said
        assert "Redis was stopped cleanly, the next start keeps its sales" in running.said()
        assert scene.told()[State.WAITING] > 50
        await running.stop()
        await running.start()
        fence = re.compile(rf"the fence of .*{scene.scenario.sale_id}.* is set anew")  # and of other tests' sales
        await eventually(lambda: fence.search(running.said()))
        assert "not stopped cleanly" not in running.said()
        evidence = await scene.finish(lost=True)
    assert len(evidence.rows) == scene.scenario.items * scene.scenario.stock


async def test_a_sale_is_rebuilt_when_the_whole_stack_was_killed(running: FullStack) -> None:
    async with Scene(running, a_sale(running.folder), over_s=1, give_up_s=90) as scene:
        await scene.confirmed(10, within_s=60)
        running.process.kill()
        await running.stop()
        await running.start()
        assert "Redis was not stopped cleanly: the sales of before are rebuilt" in running.said()
        await all_ready(running)
        evidence = await scene.finish(lost=True)
    assert len(evidence.rows) == scene.scenario.items * scene.scenario.stock
