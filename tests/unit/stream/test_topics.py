"""The command that makes the topics: what it says when it cannot."""

import pytest

from fairline.stream import topics


@pytest.mark.parametrize("brokers", ["", "nowhere", "host:port", "a:1,,b:2"])
def test_a_wrong_address_is_named_in_one_line(
    brokers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIRLINE_KAFKA", brokers)
    assert topics.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "FAIRLINE_KAFKA" in line
    assert repr(brokers) in line


def test_brokers_that_do_not_answer_are_given_up_after_the_time_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIRLINE_KAFKA", "127.0.0.1:1")
    assert topics.main(["--within-s", "0.5"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "within 0.5 s" in line


@pytest.mark.parametrize("brokers", ["127.0.0.1:99999", "a..b:9092"])
def test_what_cannot_be_an_address_is_said_at_once(
    brokers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIRLINE_KAFKA", brokers)
    assert topics.main(["--within-s", "3600"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"Kafka at {brokers} cannot be an address" in line


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
def test_a_wait_that_would_never_end_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        topics.main([f"--within-s={seconds}"])
    assert f"{seconds} is no number of seconds" in capsys.readouterr().err


def test_a_topic_has_at_least_one_partition(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        topics.main(["--partitions", "0"])
    assert "0 is not above 0" in capsys.readouterr().err


def test_every_topic_has_one_for_its_dead_letters() -> None:
    mains = [name for name in topics.ALL if not name.endswith(".DLT")]
    assert sorted(topics.ALL) == sorted([*mains, *(f"{name}.DLT" for name in mains)])
