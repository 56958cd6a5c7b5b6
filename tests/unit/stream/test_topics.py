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


def test_a_topic_has_at_least_one_partition(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        topics.main(["--partitions", "0"])
    assert "0 is not above 0" in capsys.readouterr().err


def test_every_topic_has_one_for_its_dead_letters() -> None:
    mains = [name for name in topics.ALL if not name.endswith(".DLT")]
    assert sorted(topics.ALL) == sorted([*mains, *(f"{name}.DLT" for name in mains)])
