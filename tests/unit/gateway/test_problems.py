"""Problems: their shape, their waiting times, what of an error a client learns."""

import json

import pytest

from fairline.errors import FairlineError, FencedError, IllegalMoveError, OverloadedError, TokenError, UnavailableError
from gateway.problems import KINDS, Problem, jittered, of_error, shown


@pytest.mark.parametrize("code", KINDS)
def test_every_code_makes_a_complete_problem(code: str) -> None:
    status, headers, body = Problem(code, field="x").answer("r-1")
    said = json.loads(body)
    assert status == said["status"] == KINDS[code].status
    assert said["code"] == code
    assert said["type"] == f"urn:fairline:problem:{code}"
    assert said["instance"] == "urn:fairline:request:r-1"
    assert said["title"]
    assert said["detail"]
    assert said["field"] == "x"
    assert dict(headers)[b"content-type"] == b"application/problem+json"


@pytest.mark.parametrize("code", KINDS)
def test_whoever_shall_come_back_is_told_when(code: str) -> None:
    headers = dict(Problem(code).answer("r")[1])
    assert (b"retry-after" in headers) == (KINDS[code].status in {425, 429, 503})
    if b"retry-after" in headers:
        assert int(headers[b"retry-after"]) >= (KINDS[code].retry_s or 0)


def test_waiting_times_are_spread() -> None:
    found = {jittered(5) for _ in range(300)}
    assert min(found) >= 5
    assert max(found) <= 10
    assert len(found) > 3
    assert {jittered(1) for _ in range(300)} == {1, 2, 3}, "where little is asked for, it is spread too"
    assert jittered(0) >= 1


@pytest.mark.parametrize("error", [FencedError, UnavailableError, OverloadedError])
def test_an_address_in_an_error_is_not_told(error: type[FairlineError]) -> None:
    problem = of_error(error("Redis at 10.0.0.7:6379 does not answer"))
    assert problem is not None
    assert problem.code == error.code
    assert b"10.0.0.7" not in problem.answer("r")[2]


def test_a_bad_token_is_asked_for_again() -> None:
    problem = of_error(TokenError())
    assert problem is not None
    assert b"www-authenticate" in dict(problem.answer("r")[1])


def test_a_bug_is_no_answer() -> None:
    assert of_error(IllegalMoveError()) is None


def test_a_client_s_own_words_are_repeated_only_in_part() -> None:
    assert shown("short") == "short"
    assert len(shown("x" * 10_000)) < 100
