"""fairline.runtime.retry: tried again as often as is said, on what is said, and the last error is the one raised."""

import pytest

from fairline.runtime.retry import retry, spread


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int, error: type[Exception] = ConnectionError) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error(f"call {self.calls}")
        return self.calls


async def test_what_succeeds_at_once_is_called_once() -> None:
    assert await retry(Flaky(0), on=ConnectionError) == 1


async def test_what_fails_is_tried_again_until_it_succeeds() -> None:
    assert await retry(Flaky(2), on=ConnectionError, attempts=3, first_s=0, longest_s=0) == 3


async def test_after_the_last_attempt_its_own_error_is_raised() -> None:
    flaky = Flaky(9)
    with pytest.raises(ConnectionError, match="call 3"):
        await retry(flaky, on=(ConnectionError, TimeoutError), attempts=3, first_s=0, longest_s=0)
    assert flaky.calls == 3


async def test_another_error_is_not_tried_again() -> None:
    flaky = Flaky(1, LookupError)
    with pytest.raises(LookupError):
        await retry(flaky, on=ConnectionError)
    assert flaky.calls == 1


async def test_no_attempt_is_begun_after_the_time_is_over() -> None:
    flaky = Flaky(99)
    with pytest.raises(ConnectionError):
        await retry(flaky, on=ConnectionError, attempts=99, within_s=0)
    assert flaky.calls == 1


def test_a_rest_is_spread_over_its_second_half() -> None:
    rests = [spread(2.0) for _ in range(200)]
    assert min(rests) >= 1.0
    assert max(rests) <= 2.0
    assert len(set(rests)) > 1
