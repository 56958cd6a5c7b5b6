"""When a buyer shall ask again."""

import pytest

from fairline.states import TERMINAL, State
from fairline.store.tickets import Ticket
from gateway.tickets import LATE_S, SOON_S, next_poll_s


def ticket(state: State = State.WAITING, position: int | None = None) -> Ticket:
    return Ticket(
        ticket_id="t",
        state=state,
        sku="a",
        buyer_id="b",
        quantity=1,
        arrival=1,
        number=1,
        epoch=0,
        units=(),
        reason=None,
        changed_ms=0,
        position=position,
    )


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_nobody_asks_again_after_the_outcome(state: State) -> None:
    assert next_poll_s(ticket(state), None) is None


@pytest.mark.parametrize("state", [State.ADMITTED, State.RESERVED])
def test_whose_turn_has_come_asks_soon(state: State) -> None:
    assert next_poll_s(ticket(state), None) == SOON_S


@pytest.mark.parametrize(
    ("position", "eta_s", "expected"),
    [(1, None, SOON_S), (1, 0.0, SOON_S), (50, None, 5.0), (50, 20.0, 2.0), (9_999, None, LATE_S), (1, 9e9, LATE_S)],
)
def test_whoever_waits_long_asks_seldom(position: int, eta_s: float | None, expected: float) -> None:
    assert next_poll_s(ticket(position=position), eta_s) == expected
