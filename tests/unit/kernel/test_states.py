"""fairline.states: every pair of state and event, one by one; nothing else moves a ticket."""

import itertools

import pytest

from fairline.errors import IllegalMoveError
from fairline.states import LIVE, MOVES, TERMINAL, Event, SaleState, State, after

# Written out a second time, from the diagram in the design: WAITING, ADMITTED and RESERVED, what may happen, whereto.
DIAGRAM = """
WAITING   admit ADMITTED, leave LEFT, sell_out SOLD_OUT, decline DECLINED, confirm CONFIRMED, release RELEASED
ADMITTED  reserve RESERVED, decline DECLINED, requeue WAITING, lapse LAPSED, confirm CONFIRMED, release RELEASED
ADMITTED  recover WAITING
RESERVED  confirm CONFIRMED, release RELEASED, recover WAITING
"""
EXPECTED = {
    (state, event): target
    for state, _, moves in (line.partition(" ") for line in DIAGRAM.strip().splitlines())
    for event, target in (move.split() for move in moves.split(","))
}


@pytest.mark.parametrize(("state", "event"), [*itertools.product(State, Event)])
def test_each_event_in_each_state_leads_where_the_diagram_says_or_is_refused(state: State, event: Event) -> None:
    target = EXPECTED.get((state.value, event.value))
    if target is None:
        with pytest.raises(IllegalMoveError, match=f"{state} by {event}"):
            after(state, event)
    else:
        assert after(state, event) == target


def test_every_state_is_live_or_terminal_and_can_be_reached() -> None:
    assert set(State) == LIVE | TERMINAL
    assert not LIVE & TERMINAL
    assert {"WAITING", *(target.value for target in MOVES.values())} == {state.value for state in State}


def test_3_a_terminal_state_is_final() -> None:
    assert not [state for state, _ in MOVES if state in TERMINAL]


def test_s1_a_verdict_is_forced_on_every_live_state() -> None:
    for state in LIVE:
        assert (after(state, Event.CONFIRM), after(state, Event.RELEASE)) == ("CONFIRMED", "RELEASED")


def test_from_every_live_state_an_outcome_can_be_reached() -> None:
    for state in LIVE:
        assert {target for (origin, _), target in MOVES.items() if origin == state} & TERMINAL


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        MOVES[State.LEFT, Event.ADMIT] = State.ADMITTED  # type: ignore[index]  # the point


def test_words_on_the_wire_are_the_names() -> None:
    assert all(state.value == state.name for state in State)
    assert all(state.value == state.name.lower() for state in SaleState)
