"""The class archive of Kafka: what Java read and checked once, mapped into memory at every later start.

Set-up makes it (7 s, 62 MB) for the Java and the jars of that moment; a stack that uses others goes without. It takes
a fresh Kafka, formatting included, from 3.1 s to 1.8 s. Java itself checks that it fits and ignores it when not.
"""

import hashlib
from pathlib import Path

from fairline.local.providers import Found


def place(java: Found, libs: Path) -> Path:
    """Where it is for this Java and this folder of jars, made or not."""
    # A newer Java at the same place has another size in its list of modules.
    modules = java.path.resolve().parent.parent / "lib" / "modules"
    size = modules.stat().st_size if modules.exists() else 0
    name = hashlib.sha256(f"{modules} {size}".encode()).hexdigest()[:12]
    return libs.with_name(f"{libs.name}-{name}.jsa")


def options(java: Found, libs: Path) -> list[str]:
    """For the command line of Java; none where there is no archive."""
    archive = place(java, libs)
    return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
