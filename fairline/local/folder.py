"""The data folder of a stack: whose it is, who holds it, and the small files in it.

Layout: ``fairline.json`` (makes the folder ours, says which servers made the data), ``lock`` (held while a
stack runs, contains its process id), ``secrets.json``, ``ports.json``, ``stack.json`` (while it runs),
``clean`` (after a clean stop), ``control.sock``, ``logs/``, ``redis/``, ``postgres/``, ``kafka/``. Everything
is for its owner alone.
"""

import fcntl
import json
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from fairline.local.errors import StackError, full_disk, writing

DEFAULT = Path(".fairline")
_FORMAT = 1
_LEAST_FREE_BYTES = 300_000_000  # what three empty servers take (130 MB) and as much again to work with


class DataFolder:
    """One folder, held by at most one running stack."""

    def __init__(self, path: Path) -> None:
        """Does not touch anything yet."""
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.stack_file = self.path / "stack.json"
        self.ports_file = self.path / "ports.json"
        self._marker = self.path / "fairline.json"
        self._clean = self.path / "clean"
        self._lock: int | None = None

    def open(self) -> None:
        """Make it, or take the one that is there, and hold it until ``close``.

        Raises:
            StackError: it is somebody else's, of a newer version, in use, not writable, or the disk is full.
        """
        with writing(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise StackError(f"{self.path} is not a folder: name another with --data.")
            if self._marker.exists() and self._marker.stat().st_uid != os.geteuid():
                raise StackError(
                    f"The stack in {self.path} is another user's ({_owner(self._marker)}): start it as that user, "
                    "or name another folder with --data."
                )
            if self.path.exists() and not self._marker.exists() and self._has_files():
                raise StackError(
                    f"{self.path} has files in it that are not Fairline's: name an empty or new folder with --data."
                )
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if shutil.disk_usage(self.path).free < _LEAST_FREE_BYTES:
                raise full_disk(self.path)
            self._hold()
            if self._read_marker().get("format", _FORMAT) > _FORMAT:
                self.close()
                raise StackError(
                    f"{self.path} was made by a newer Fairline: use that one, or name a new folder with --data."
                )
            self.remember({})
            self.logs.mkdir(mode=0o700, exist_ok=True)

    def close(self) -> None:
        """Let go of it; a second call is fine."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def made_by(self) -> dict[str, str]:
        """Which server made the data of each, for example ``{"postgres": "15"}``."""
        made_by: dict[str, str] = self._read_marker().get("made_by", {})
        return made_by

    def remember(self, made_by: dict[str, str]) -> None:
        """Add to ``made_by``."""
        whole = {"format": _FORMAT, "made_by": {**self.made_by(), **made_by}}
        write_atomically(self._marker, json.dumps(whole, indent=2) + "\n")

    def secret(self, name: str, prefix: str = "") -> str:
        """A random secret, made once and kept for the life of the folder."""
        kept_in = self.path / "secrets.json"
        kept: dict[str, str] = json.loads(kept_in.read_text()) if kept_in.exists() else {}
        if name not in kept:
            kept[name] = prefix + secrets.token_urlsafe(32)
            write_atomically(kept_in, json.dumps(kept, indent=2) + "\n")
        return kept[name]

    def take_clean_mark(self) -> str | None:
        """The ``master_replid`` of a Redis that was stopped cleanly; the mark is gone afterwards."""
        if not self._clean.exists():
            return None
        mark = self._clean.read_text().strip()
        self._clean.unlink()
        _sync(self.path)  # or a power failure brings it back, and with it the trust in what has changed since
        return mark or None

    def set_clean_mark(self, replid: str) -> None:
        """The last thing a clean stop does."""
        write_atomically(self._clean, replid + "\n")

    def _has_files(self) -> bool:
        # Made before the marker: neither a second start at that moment nor one after a crash calls the folder foreign.
        ours = {"lock", _draft_of(self._marker).name}
        return any(file.name not in ours for file in self.path.iterdir())

    def _hold(self) -> None:
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        for tries_left in reversed(range(5)):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if tries_left:
                    time.sleep(0.02)  # ``holder`` has it for an instant when it looks
                    continue
                os.close(lock)
                raise StackError(
                    f"A stack runs in {self.path} already: fairline status shows it, fairline down stops it, "
                    "another --data folder starts a second one."
                ) from None
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def _read_marker(self) -> dict[str, Any]:
        if not self._marker.exists():
            return {}
        try:
            marker: dict[str, Any] = json.loads(self._marker.read_text())
        except ValueError:
            raise StackError(f"{self._marker} cannot be read: name a new folder with --data.") from None
        return marker


def holder(path: Path) -> int | None:
    """The process id of the stack that holds the folder, or ``None``."""
    try:
        lock = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int((path / "lock").read_text().strip() or 0) or None
    else:
        return None
    finally:
        os.close(lock)


def _owner(file: Path) -> str:
    try:
        return file.owner()
    except KeyError:
        return str(file.stat().st_uid)


def _sync(folder: Path) -> None:
    entries = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(entries)
    finally:
        os.close(entries)


def _draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def write_atomically(path: Path, text: str) -> None:
    """For its owner alone; a reader sees the old text or the new one."""
    draft = _draft_of(path)
    with writing(path.parent):
        with open(draft, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
