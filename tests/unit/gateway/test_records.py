"""What the order service refuses, as operators read it."""

import pytest

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
