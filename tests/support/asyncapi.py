"""The payload schemas of ``docs/asyncapi.yaml``, made from the structs that the code sends and reads.

``python -m tests.support.asyncapi`` writes them into the document, behind the marker; the rest of it is written by
hand. A contract test fails when document and structs differ.
"""

import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from fairline import events, frames

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
MARKER: Final = "  # Everything below is written by `python -m tests.support.asyncapi`.\n"
FRAMES: Final = (frames.TicketFrame, frames.ProgressFrame, frames.ByeFrame, frames.Hello)
FACTS: Final = tuple(sorted(events.AnyFact.__args__, key=lambda fact: fact.__name__))


def generated() -> str:
    """``components.schemas`` as YAML: one entry a struct, named like it."""
    _, components = msgspec.json.schema_components((*FRAMES, *FACTS), ref_template="#/components/schemas/{name}")
    schemas = {name: _described(components[name]) for name in sorted(components)}
    text = yaml.safe_dump({"schemas": schemas}, sort_keys=False, width=110, allow_unicode=True)
    return "".join(f"  {line}\n" for line in text.splitlines())


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    # Docstrings are wrapped for a reader of code.
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    return schema


def document(text: str) -> str:
    """The document with today's schemas."""
    by_hand, marker, _ = text.partition(MARKER)
    if not marker:
        sys.exit(f"{DOCUMENT} has lost the line {MARKER.strip()!r}")
    return by_hand + marker + generated()


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text()))
