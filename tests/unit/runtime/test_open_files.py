"""A process takes no more connections than it may open files."""

import resource

import pytest

from fairline.runtime.open_files import FILES_BESIDE, most_connections


class Limit:
    """The limit of open files, as a process may see it."""

    def __init__(self, soft: int, hard: int) -> None:
        self.now = (soft, hard)

    def get(self, _: int) -> tuple[int, int]:
        return self.now

    def set(self, _: int, to: tuple[int, int]) -> None:
        self.now = to


@pytest.mark.parametrize(
    ("files", "most", "then"),
    [
        ((20_000, 20_000), 10_000, 20_000),
        ((1_024, 20_000), 10_000, 10_000 + FILES_BESIDE),
        ((1_024, 4_096), 4_096 - FILES_BESIDE, 4_096),
        ((64, 64), 1, 64),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 10_000, resource.RLIM_INFINITY),
        ((1_024, resource.RLIM_INFINITY), 10_000, 10_000 + FILES_BESIDE),
    ],
)
def test_connections_stay_within_the_open_files_allowed(
    monkeypatch: pytest.MonkeyPatch, files: tuple[int, int], most: int, then: int
) -> None:
    limit = Limit(*files)
    monkeypatch.setattr(resource, "getrlimit", limit.get)
    monkeypatch.setattr(resource, "setrlimit", limit.set)
    assert most_connections(10_000) == most
    assert limit.now == (then, files[1])
