"""Writes the two tables of ``docs/http.md`` that come from the code: calls and codes.

    python -m tests.support.http_reference          writes them anew

The rest of the page is written by hand. A test fails while the page differs from what this would write.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fairline.store.client import connect
from gateway.app import Gateway
from gateway.problems import KINDS
from tests.support.deployment import ROOT
from tests.support.gateway import settings_of

PAGE: Final = ROOT / "docs" / "http.md"
NOWHERE: Final = "redis://127.0.0.1:1"


def document() -> dict[str, Any]:
    """The OpenAPI document, without a Redis."""
    return Gateway(settings_of(NOWHERE, 1), connect(NOWHERE, name="nobody")).document


def operations(found: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(path, METHOD, operation) of all, in the order of the document."""
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def codes_of(operation: Mapping[str, Any]) -> list[str]:
    """The codes of problems that an operation may answer."""
    return [
        code
        for answer in operation["responses"].values()
        for kind, content in answer.get("content", {}).items()
        if kind == "application/problem+json"
        for code in content["schema"]["properties"]["code"]["enum"]
    ]


def written(page: str) -> str:
    """The page with both tables as the code has them now; raises ``ValueError`` when it has no place for one."""
    found = document()
    for name, lines in (("calls", calls(found)), ("codes", codes(found))):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, opened, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (opened and closed):
            raise ValueError(f"the page has no place for the {name}")
        page = f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}"
    return page


def calls(found: Mapping[str, Any]) -> Iterator[str]:
    """Every call, who may make it, and what it answers when it is not refused."""
    yield "| call | who | answers |"
    yield "|---|---|---|"
    for path, method, operation in operations(found):
        role = operation.get("description", "").removeprefix("Needs the role ").rstrip(".")
        who = role or ("the ticket's token" if operation["security"] else "anybody")
        good = "; ".join(
            f"{status} {answer['description']}"
            for status, answer in operation["responses"].items()
            if int(status) < 400
        )
        yield f"| `{method} {path}` | {who} | {good} |"


def codes(found: Mapping[str, Any]) -> Iterator[str]:
    """Every code, by status, with the calls that may answer it where they are few."""
    where: dict[str, list[str]] = {}
    for _, _, operation in operations(found):
        for code in codes_of(operation):
            where.setdefault(code, []).append(operation["operationId"])
    yield "| status | code | `Retry-After` from | meaning | answered by |"
    yield "|---|---|---|---|---|"
    for code, kind in KINDS.items():
        names = where.get(code, [])
        few = 4
        who = ", ".join(f"`{name}`" for name in names) if 0 < len(names) <= few else "many" if names else "any address"
        wait = "" if kind.retry_s is None else f"{kind.retry_s} s"
        yield f"| {kind.status} | `{code}` | {wait} | {kind.detail} | {who} |"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
