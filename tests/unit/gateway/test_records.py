"""What the order service refuses, as operators read it."""

import msgspec
import pytest

from gateway.problems import KINDS
from gateway.records import _refusal


def test_what_is_wrong_with_a_query_is_said_in_the_words_of_whoever_knows() -> None:
    problem = _refusal(400, b'{"code": "invalid_query", "detail": "state: must be one of open, replayed"}')
    assert (problem.code, problem.detail) == ("invalid_query", "state: must be one of open, replayed")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, b'{"code": "unknown_dead_letter", "detail": "inside"}', "unknown_dead_letter"),
        (409, b'{"code": "already_handled", "detail": "inside", "state": "discarded"}', "already_handled"),
        (503, b'{"code": "unavailable", "detail": "inside"}', "unavailable"),
        (400, b'{"code": "invalid_body", "detail": "inside"}', "invalid_query"),
        (500, b"no JSON", "bad_gateway"),
    ],
)
def test_every_other_refusal_has_our_own_words(status: int, body: bytes, code: str) -> None:
    problem = _refusal(status, body)
    assert problem.code == code
    assert "inside" not in problem.detail


@pytest.mark.parametrize(
    ("state", "says"),
    [("replayed", "the one that is open"), ("readmitted", "nothing is left to do"), ("discarded", "audit log")],
)
def test_who_comes_too_late_to_a_dead_letter_is_told_what_was_done_and_what_to_do(state: str, says: str) -> None:
    problem = _refusal(409, msgspec.json.encode({"code": "already_handled", "detail": "inside", "state": state}))
    assert problem.detail.startswith(f"This dead letter was {state} before")
    assert "nothing was changed" in problem.detail
    assert says in problem.detail
    assert problem.more == {"state": state}
    assert _refusal(409, b'{"code": "already_handled"}').detail == KINDS["already_handled"].detail
