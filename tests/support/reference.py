"""Writes the two tables of ``docs/operations.md`` that come from the code: settings and metrics.

    python -m tests.support.reference          writes them anew

The rest of the page is written by hand. A test fails while the page differs from what this would write.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fairline.runtime.metrics import Metrics
from fairline.runtime.settings import _SHARED as SHARED
from tests.support.deployment import ROOT, SETTINGS, settings_of

PAGE: Final = ROOT / "docs" / "operations.md"
_MARKS: Final = {"settings": "<!-- settings: {} -->", "metrics": "<!-- metrics: {} -->"}
_BOUNDS: Final = (("minimum", "from {}"), ("exclusiveMinimum", "above {}"), ("maximum", "to {}"))
_PLAIN: Final = {"integer": "a number", "number": "a number", "string": "text"}
_SERVICES: Final = tuple(SETTINGS)


def written(page: str) -> str:
    """The page with both tables as the code has them now; raises ``ValueError`` when it has no place for one."""
    for name, lines in (("settings", settings()), ("metrics", metrics())):
        begin, end = _MARKS[name].format("begin"), _MARKS[name].format("end")
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"the page has no place for the {name}: {begin} and {end}")
        page = f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}"
    return page


def settings() -> Iterator[str]:
    """The shared settings with who reads them, then those of each service."""
    schemas = {service: properties(service) for service in _SERVICES}
    shared = [str(field.alias) for base in SHARED for field in base.model_fields.values()]
    yield "### Shared"
    yield ""
    yield "| setting | read by | default | allowed | meaning |"
    yield "|---|---|---|---|---|"
    for name in shared:
        readers = [service for service in _SERVICES if name in schemas[service]]
        field, needed = schemas[readers[0]][name]
        who = "all" if len(readers) == len(_SERVICES) else ", ".join(readers)
        yield f"| `{name}` | {who} | {_default(field, needed=needed)} | {_allowed(field)} | {_meaning(field)} |"
    for service in _SERVICES:
        yield ""
        yield f"### Of {service}"
        yield ""
        yield "| setting | default | allowed | meaning |"
        yield "|---|---|---|---|"
        for name, (field, needed) in schemas[service].items():
            if name not in shared:
                yield f"| `{name}` | {_default(field, needed=needed)} | {_allowed(field)} | {_meaning(field)} |"


def properties(service: str) -> Mapping[str, tuple[Mapping[str, Any], bool]]:
    """Each setting of a service: its JSON schema, and whether it must be given."""
    schema = settings_of(service).model_json_schema(by_alias=True)
    needed = schema.get("required", [])
    return {name: (field, name in needed) for name, field in schema["properties"].items()}


def metrics() -> Iterator[str]:
    """Every metric of the catalogue, with who counts it: whoever's source, or what it takes of ours, names it."""
    yield "| metric | kind | labels | counted by | meaning |"
    yield "|---|---|---|---|---|"
    sources = {service: _source(service) for service in _SERVICES}
    for attribute, metric in vars(Metrics()).items():
        if attribute == "registry":
            continue
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "none"
        used = re.compile(rf"metrics\.{attribute}\b")
        counting = [service for service, source in sources.items() if used.search(source)]
        who = "all" if len(counting) == len(_SERVICES) else ", ".join(counting) or "nobody yet"
        yield f"| `{name}` | {family.type} | {labels} | {who} | {family.documentation} |"


def _source(service: str) -> str:
    """What a service's own modules say, and those of ``fairline.runtime`` that they import."""
    own = "\n".join(path.read_text() for path in sorted((ROOT / service).rglob("*.py")))
    runtime = ROOT / "fairline" / "runtime"
    taken = sorted(set(re.findall(r"^from fairline\.runtime\.(\w+) import", own, re.MULTILINE)))
    return "\n".join([own, *((runtime / f"{name}.py").read_text() for name in taken)])


def _default(field: Mapping[str, Any], *, needed: bool) -> str:
    if needed:
        return "**required**"
    default = field.get("default")
    return "none" if default in (None, "") else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _allowed(field: Mapping[str, Any]) -> str:
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    kind = kinds[0]
    if kind.get("format") == "password":
        return "secret"
    if "pattern" in kind:
        return "`{}`".format(kind["pattern"].replace("|", "\\|"))
    bounds = " ".join(text.format(f"{kind[bound]:,}") for bound, text in _BOUNDS if bound in kind)
    return bounds or _PLAIN[kind["type"]]


def _meaning(field: Mapping[str, Any]) -> str:
    return str(field.get("description", "")).replace("|", "\\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(written(PAGE.read_text()))


if __name__ == "__main__":
    main()
