"""What the pages name, and whether it exists: tests, links and their headings, settings, metrics, commands."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fairline.cli import COMMANDS
from fairline.runtime.settings import ELSEWHERE
from tests.support import reference
from tests.support.alerts import series
from tests.support.deployment import ROOT, SETTINGS

PAGES: Final[Mapping[str, Path]] = {
    str(path.relative_to(ROOT)): path
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "loadtest").glob("*.md")])
}
_LINK: Final = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
_ANY_TEST: Final = re.compile(r"`(test_\w+)`")
_LOCAL: Final = {"FAIRLINE_NAME_FILE", "FAIRLINE_GATEWAY_PORT"}  # a form, and one of the local stack's own


def missing_tests(text: str) -> list[str]:
    """Tests that a text names and that are not there."""
    missing = []
    for path, name in _TEST.findall(text):
        file = ROOT / path
        if not file.is_file() or (name and not re.search(rf"def {name}\(", file.read_text())):
            missing.append(f"{path}::{name}")
    if names := _ANY_TEST.findall(text):
        there = "".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
        missing += [name for name in names if not re.search(rf"def {name}\(", there)]
    return missing


def dead_links(page: Path, text: str) -> list[str]:
    """Links to files that are not there, or to headings that their page does not have."""
    dead = []
    for target, anchor in _LINK.findall(text):
        if target.startswith(("http:", "https:", "mailto:")):
            continue
        file = page.parent / target if target else page
        if not file.exists():
            dead.append(target)
        elif anchor and anchor not in anchors(file.read_text()):
            dead.append(f"{target}#{anchor}")
    return dead


def anchors(text: str) -> set[str]:
    """What a link may have behind its ``#``, of a page."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def unknown_names(text: str) -> list[str]:
    """Settings, metrics and commands that a text names and that there are not."""
    settings = {name for service in SETTINGS for name in reference.properties(service)} | {*ELSEWHERE} | _LOCAL
    metrics = {name for name in series() if name.startswith("fairline_")}
    metrics |= {name.removesuffix("_bucket") for name in metrics}
    unknown = set(re.findall(r"\bFAIRLINE_[A-Z0-9_]*[A-Z0-9]", text)) - settings
    unknown |= set(re.findall(r"\bfairline_[a-z_]+[a-z]\b", text)) - metrics
    unknown |= {f"fairline {word}" for word in re.findall(r"`fairline ([a-z]+)", text) if word not in COMMANDS}
    return sorted(unknown)
