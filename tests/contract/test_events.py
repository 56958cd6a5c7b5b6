"""Sample events, one file a case. A change that breaks one breaks what is on Kafka already, and needs a new tag."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from fairline import events
from fairline.events import AnyFact, Fact

FOLDER = Path(__file__).parent / "examples"
GOOD = sorted(FOLDER.glob("*.json"))
BAD = sorted((FOLDER / "bad").glob("*.json"))


def _name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", GOOD, ids=_name)
def test_a_sample_is_decoded_with_nothing_lost(path: Path) -> None:
    fact = events.decode(path.read_bytes())
    sample: dict[str, Any] = json.loads(path.read_text())
    again: dict[str, Any] = json.loads(events.encode(fact))
    known = {name: value for name, value in sample.items() if name in again}
    assert _without_defaults(again, known) == known
    assert again["type"] == path.stem.split("-")[0]
    assert events.decode(events.encode(fact)) == fact


@pytest.mark.parametrize("path", GOOD, ids=_name)
def test_the_outbox_carries_the_same_fact(path: Path) -> None:
    fact = events.decode(path.read_bytes())
    assert events.from_outbox(msgspec.msgpack.encode(fact)) == fact


@pytest.mark.parametrize("path", BAD, ids=_name)
def test_a_bad_sample_is_rejected(path: Path) -> None:
    with pytest.raises(msgspec.DecodeError):
        events.decode(path.read_bytes())


def test_every_fact_and_every_reason_of_a_failure_has_a_sample() -> None:
    facts = [events.decode(path.read_bytes()) for path in GOOD]
    assert {type(fact) for fact in facts} == set(get_args(AnyFact))
    reasons = {fact.reason for fact in facts if isinstance(fact, events.OrderFailed)}
    assert reasons == set(get_args(events.FailureReason))


@pytest.mark.parametrize("path", GOOD, ids=_name)
def test_a_fact_knows_its_topic_and_is_keyed_by_its_ticket_else_by_its_sale(path: Path) -> None:
    fact = events.decode(path.read_bytes())
    sample: dict[str, Any] = json.loads(path.read_text())
    assert fact.topic in events.TOPICS
    assert fact.key == sample.get("ticket_id", sample["sale_id"])


@pytest.mark.parametrize("kind", get_args(AnyFact), ids=lambda kind: str(kind.__name__))
def test_a_fact_is_frozen_and_has_its_version_in_its_tag(kind: type[Fact]) -> None:
    config = kind.__struct_config__
    assert config.frozen
    assert str(config.tag).rpartition(".v")[2].isdigit()
    assert not config.forbid_unknown_fields  # readers ignore fields they do not know


def _without_defaults(again: dict[str, Any], sample: dict[str, Any]) -> dict[str, Any]:
    """What was written of what the sample says; a field that it leaves out has come back with its default."""
    kept = {name: again[name] for name in sample}
    if "items" in kept:
        kept["items"] = [
            {name: item[name] for name in like} for item, like in zip(kept["items"], sample["items"], strict=True)
        ]
    return kept
