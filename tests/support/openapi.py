"""Whether a server answers what its OpenAPI document says. Every answer in the gateway's tests is held to it."""

import re
from typing import Any

from jsonschema import Draft202012Validator


class Contract:
    """An OpenAPI 3.1 document, to hold answers against."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        paths = sorted(document["paths"], key=lambda path: path.count("{"))
        self._paths = [(re.compile(re.sub(r"{\w+}", "[^/]+", path.replace("{path}", ".+"))), path) for path in paths]

    def check(self, method: str, path: str, status: int, content_type: str, body: Any) -> None:
        """Raise ``AssertionError`` for an answer that the document does not allow."""
        template = next((known for found, known in self._paths if found.fullmatch(path.partition("?")[0])), None)
        if template is None:
            assert status == 404, f"{method} {path} is not in the document"
            return
        operation = self._document["paths"][template].get(method.lower())
        if operation is None:
            assert status in {204, 405}, f"{method} {template} is not in the document"
            return
        responses = operation["responses"]
        assert str(status) in responses, f"{method} {template} answers {status}, which the document does not say"
        content = responses[str(status)].get("content", {})
        if not content or not body:
            return
        kind = content_type.partition(";")[0]
        assert kind in {name.partition(";")[0] for name in content} or "*/*" in content, f"{method} {template}: {kind}"
        schema = content.get(kind, {}).get("schema")
        if schema is not None:
            faults = [f"{fault.json_path}: {fault.message}" for fault in self._validator(schema).iter_errors(body)]
            assert not faults, f"{method} {template} {status}: {faults}"

    def _validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        return Draft202012Validator({**schema, "components": self._document["components"]})
