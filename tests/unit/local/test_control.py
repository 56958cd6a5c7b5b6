import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fairline.local.control import Control, ask
from fairline.local.errors import StackError


async def answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["do"] == "refuse":
        raise StackError("Not today.")
    return {"say": f"did {request['do']}"}


@pytest.mark.parametrize("depth", [1, 12], ids=["shallow", "deeper than a socket's path may be"])
async def test_a_request_is_answered(tmp_path: Path, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path.joinpath(*["a-folder-name"] * depth)
    folder.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))  # a deep TMPDIR
    control = Control(folder, answer)
    (folder / "control.sock").touch()  # a crash left it
    await control.start()
    assert (await asyncio.to_thread(ask, folder, {"do": "it"}, within_s=5))["say"] == "did it"
    with pytest.raises(StackError, match="Not today"):
        await asyncio.to_thread(ask, folder, {"do": "refuse"}, within_s=5)
    for _ in range(2):
        await control.stop()
    with pytest.raises(StackError, match="No stack runs in"):
        await asyncio.to_thread(ask, folder, {"do": "it"}, within_s=5)
