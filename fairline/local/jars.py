"""The jars of Kafka: where set-up put them, and whether they are exactly the ones of the lock file.

The lock has the form of ``sha256sum``: a hash, two spaces, the path of the jar in a Maven repository. It is
written by ``python -m fairline.local.prepare --lock`` and committed.
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from fairline.local.errors import MissingError, StackError

VERSION = (4, 4, 0)
_TEXT = ".".join(map(str, VERSION))
LOCK = Path(__file__).with_name(f"kafka-{_TEXT}.sha256")


def folder(environ: Mapping[str, str]) -> Path:
    """Below the environment that runs this, or where ``FAIRLINE_KAFKA_JARS`` says."""
    named = environ.get("FAIRLINE_KAFKA_JARS")
    return Path(named).absolute() if named else Path(sys.prefix) / "share" / "fairline" / f"kafka-{_TEXT}"


def locked(lock: Path = LOCK) -> dict[PurePosixPath, str]:
    """Path in a Maven repository -> SHA-256."""
    lines = (line.split("  ", 1) for line in lock.read_text().splitlines() if line)
    return {PurePosixPath(path): sha256 for sha256, path in lines}


def check(folder: Path, lock: Path = LOCK) -> None:
    """Pass when the folder has exactly the jars of the lock; 43 MB take about 0.1 s.

    Raises:
        StackError: a jar is missing, differs, or is not in the lock.
    """
    expected = {path.name: sha256 for path, sha256 in locked(lock).items()}
    there = {path.name: path for path in folder.glob("*")} if folder.is_dir() else {}
    if not there:
        raise MissingError(f"The jars of Kafka {_TEXT} are not in {folder}: run make setup.")
    wrong = [f"{name} is missing" for name in expected.keys() - there.keys()]
    wrong += [f"{name} is not in the lock" for name in there.keys() - expected.keys()]
    wrong += [f"{name} differs" for name in expected.keys() & there.keys() if sha256(there[name]) != expected[name]]
    if wrong:
        raise StackError(
            f"The jars in {folder} are not those of {lock.name} ({'; '.join(sorted(wrong)[:3])}): "
            "remove that folder and run make setup."
        )


def sha256(file: Path) -> str:
    """In hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
