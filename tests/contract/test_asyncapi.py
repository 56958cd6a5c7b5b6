"""``docs/asyncapi.yaml`` says what the code sends, and ``docs/websocket.md`` lists every close code."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from fairline import events, frames
from tests.support import asyncapi

TEXT = asyncapi.DOCUMENT.read_text()
DOC = yaml.safe_load(TEXT)


def refs_in(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for name, value in part.items():
            if name == "$ref":
                yield value
            else:
                yield from refs_in(value)
    elif isinstance(part, list):
        for value in part:
            yield from refs_in(value)


def at(ref: str) -> Any:
    found: Any = DOC
    for step in ref.removeprefix("#/").split("/"):
        found = found[step]
    return found


def payload_of(message: dict[str, Any]) -> Any:
    return at(message["payload"]["$ref"])


def test_its_schemas_are_those_of_the_structs() -> None:
    assert asyncapi.document(TEXT) == TEXT, "run: python -m tests.support.asyncapi"


def test_every_reference_leads_somewhere() -> None:
    refs = set(refs_in(DOC))
    assert len(refs) > 20
    for ref in refs:
        assert at(ref), ref


def test_every_schema_is_one_and_is_reached() -> None:
    reached = set(refs_in(DOC))
    for name, schema in DOC["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert f"#/components/schemas/{name}" in reached


def test_every_topic_has_its_channel_and_every_fact_its_topic() -> None:
    channels = {channel["address"]: channel for channel in DOC["channels"].values()}
    assert channels.keys() - {"/sales/{saleId}/tickets/{ticketId}"} == set(events.TOPICS)
    for fact in asyncapi.FACTS:
        message = DOC["components"]["messages"][fact.__name__]
        assert message["name"] == fact.__struct_config__.tag
        assert fact.__name__ in channels[events._TOPICS[fact]]["messages"]
        assert f"{events._TOPICS[fact]}{events.DEAD_LETTERS}" in channels[events._TOPICS[fact]]["description"]


@pytest.mark.parametrize("frame", asyncapi.FRAMES, ids=lambda frame: str(frame.__struct_config__.tag))
def test_the_examples_of_frames_fit_and_the_code_reads_them(frame: type[msgspec.Struct]) -> None:
    message = DOC["components"]["messages"][frame.__struct_config__.tag]
    assert message["examples"]
    for example in message["examples"]:
        schema = {"$ref": message["payload"]["$ref"], "components": DOC["components"]}
        jsonschema.validate(example["payload"], schema)
        assert (
            msgspec.json.decode(msgspec.json.encode(msgspec.convert(example["payload"], frame))) == example["payload"]
        )
        for name in example["payload"]:
            broken = example["payload"] | {name: {"no": "such value"}}
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(broken, schema)


def test_every_close_code_is_explained() -> None:
    page = (asyncapi.DOCUMENT.parent / "websocket.md").read_text()
    codes = [value for name, value in vars(frames.CloseCode).items() if not name.startswith("_")]
    assert len(codes) > 5
    for code in codes:
        assert f"| {code} |" in page, code
