import pytest

from fairline.local.errors import StackError
from fairline.local.servers import at_once


async def test_of_failures_in_the_same_turn_the_first_in_order_is_told() -> None:
    async def fails(number: int) -> None:
        raise StackError(f"number {number}")

    with pytest.raises(StackError, match=r"^number 0$"):
        await at_once(fails(number) for number in range(20))
