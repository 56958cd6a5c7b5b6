"""What the gateway remembers of operators' keys: for less than a second, and of few."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fairline.store.operators import Operator, Operators, digest_of
from gateway import auth
from gateway.auth import KEEP_S, MOST_KEPT, Keyring
from gateway.settings import LONGEST_KEY_LENGTH

ANNA = Operator(name="anna", role="viewer")


class Stored:
    """The stored keys, by a clock of their own: each question takes ``takes_s``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known = {digest_of("anna's"): ANNA}
        self.asked = 0
        self.now = 1000.0
        self.takes_s = 0.0
        monkeypatch.setattr(auth, "time", SimpleNamespace(monotonic=lambda: self.now))

    async def find(self, digest: str) -> Operator | None:
        self.asked += 1
        found = self.known.get(digest)
        self.now += self.takes_s
        return found


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    return Stored(monkeypatch)


@pytest.fixture
def keyring(stored: Stored) -> Keyring:
    return Keyring(cast(Operators, cast(Any, stored)), "the first one's")


async def test_a_key_is_asked_for_once_in_its_time_and_so_is_one_that_nobody_has(
    stored: Stored, keyring: Keyring
) -> None:
    for key, operator in (("anna's", ANNA), ("nobody's", None)):
        stored.asked = 0
        assert [await keyring.operator(key) for _ in range(3)] == [operator] * 3
        assert stored.asked == 1


async def test_a_revoked_key_ends_within_a_second_however_long_redis_took_to_say_that_it_was_good(
    stored: Stored, keyring: Keyring
) -> None:
    stored.takes_s = 0.7
    assert await keyring.operator("anna's") == ANNA
    stored.known.clear()
    assert await keyring.operator("anna's") == ANNA, "it was asked for 0.7 s ago"
    stored.now += KEEP_S - stored.takes_s
    assert await keyring.operator("anna's") is None
    assert KEEP_S < 1


async def test_a_key_that_was_revoked_here_ends_at_once(stored: Stored, keyring: Keyring) -> None:
    assert await keyring.operator("anna's") == ANNA
    stored.known.clear()
    keyring.forget()
    assert await keyring.operator("anna's") is None


async def test_guessed_keys_are_not_kept_without_end(stored: Stored, keyring: Keyring) -> None:
    for n in range(MOST_KEPT + 50):
        assert await keyring.operator(f"guess-{n}") is None
    assert len(keyring._kept) == MOST_KEPT


async def test_a_key_that_none_can_be_is_not_asked_for(stored: Stored, keyring: Keyring) -> None:
    assert await keyring.operator("x" * (LONGEST_KEY_LENGTH + 1)) is None
    assert stored.asked == 0


async def test_the_first_key_needs_no_redis(stored: Stored, keyring: Keyring) -> None:
    first = await keyring.operator("the first one's")
    assert first is not None
    assert first.role == "admin"
    assert stored.asked == 0
