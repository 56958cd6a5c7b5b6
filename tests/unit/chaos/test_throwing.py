"""How a fault is thrown: written down before it is done, counted if it was, and ended whatever happens."""

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest

from fairline.runtime.services import cancelled
from loadtest import history
from loadtest.chaos import faults
from loadtest.chaos.faults import Fault, Harmless, NotThrownError, Scene, Thrown, throwing
from loadtest.history import LostWrites
from loadtest.recorder import Recorder
from tests.support.stack import eventually

NOWHERE = cast("Scene", None)


class Noted(Harmless):
    """Breaks nothing; fails as often as it is told to."""

    targets = ("it",)
    longest_s = 1.0

    def __init__(self, *, fails: int = 0, stays: int = 0) -> None:
        self.fails, self.stays = fails, stays
        self.did: list[str] = []

    async def begin(self, scene: Scene, fault: Fault) -> None:
        self.did.append("begin")
        if self.fails:
            raise NotThrownError("it is down")

    async def end(self, scene: Scene, fault: Fault) -> None:
        self.did.append("end")
        if self.stays:
            self.stays -= 1
            raise OSError("not yet")

    def lost(self, fault: Fault) -> LostWrites:
        return "some"


async def throw(kind: Noted, path: Path, fault: Fault) -> tuple[Thrown, history.History]:
    thrown = Thrown()
    with Recorder(path / "history.jsonl", sale_id="spring") as recorder:
        await throwing(fault, {"kill": kind}, NOWHERE, recorder, thrown, began_s=time.monotonic())
    return thrown, history.read([path / "history.jsonl"])


async def test_a_fault_is_begun_ended_counted_and_written_down(tmp_path: Path) -> None:
    kind = Noted()
    thrown, written = await throw(kind, tmp_path, Fault(kind="kill", target="it", for_s=0.01))
    assert kind.did == ["begin", "end"]
    assert thrown.faults == {"kill": 1}
    assert thrown.killed == {"it": 1}
    (trouble,) = written.faults
    assert (trouble.fault.what, trouble.fault.target, trouble.fault.lost) == ("kill", "it", "some")
    assert trouble.until_s is not None
    assert trouble.until_s >= trouble.fault.at_s


async def test_what_could_not_be_thrown_is_not_counted_and_is_ended_all_the_same(tmp_path: Path) -> None:
    kind = Noted(fails=1)
    thrown, _ = await throw(kind, tmp_path, Fault(kind="kill", target="it", for_s=60))
    assert kind.did == ["begin", "end"]
    assert not thrown.faults
    assert thrown.missed == ["kill it 60.0 s: it is down"]


async def test_ending_is_tried_until_it_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "AGAIN_AFTER_S", 0.0)
    kind = Noted(stays=2)
    await throw(kind, tmp_path, Fault(kind="kill", target="it"))
    assert kind.did == ["begin", "end", "end", "end"]


async def test_a_fault_that_cannot_be_ended_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "ENDS_WITHIN_S", 0.0)
    with pytest.raises(OSError, match="not yet"):
        await throw(Noted(stays=1_000), tmp_path, Fault(kind="kill", target="it"))


async def test_a_round_that_is_cancelled_ends_its_faults(tmp_path: Path) -> None:
    kind = Noted()
    task = asyncio.create_task(throw(kind, tmp_path, Fault(kind="kill", target="it", for_s=60)))
    await eventually(lambda: kind.did)
    await cancelled(task)
    assert kind.did == ["begin", "end"]
