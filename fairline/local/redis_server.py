"""The stack's Redis: configuration, version check, and the program."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from fairline.local import probes, providers
from fairline.local.errors import StackError, writing
from fairline.local.folder import DataFolder
from fairline.local.ports import LOOPBACK
from fairline.local.program import Program

# Relative to its own folder, so that a folder of any name needs no quoting.
_CONFIGURATION = """\
bind {host}
port {port}
protected-mode yes
daemonize no
dir .
# Every write is in the append-only file before it is answered, and on the disk a second later.
appendonly yes
appendfsync everysec
save ""
# Scripts rely on it: a write is refused when the memory is used up, nothing is thrown away.
maxmemory-policy noeviction
# A primary that is alone for an hour would otherwise get a new master_replid, which halts every sale.
repl-backlog-ttl 0
"""


async def program(folder: DataFolder, port: int, environ: Mapping[str, str]) -> Program:
    """Write the configuration; the program to start.

    Raises:
        StackError: no Redis, or its data was made by one that this one cannot read.
    """
    found = await asyncio.to_thread(providers.redis, environ)
    _check_data(folder, found)
    home = folder.path / "redis"
    with writing(folder.path):
        home.mkdir(mode=0o700, exist_ok=True)
        (home / "redis.conf").write_text(_CONFIGURATION.format(host=LOOPBACK, port=port))
    folder.remember({"redis": str(found)})
    return Program(
        name="redis",
        argv=[str(found.path), "redis.conf"],
        env={"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C"},
        cwd=home,
        ready=probes.redis(port),
        death_means="; what it lost is not known, so its sales are rebuilt, and read `recovering` until then",
    )


def is_new(folder: DataFolder) -> bool:
    """Whether there is no data of an earlier start."""
    return not _append_only_file(folder.path).exists()


def _check_data(folder: DataFolder, now: providers.Found) -> None:
    made_by = folder.made_by().get("redis")
    if made_by is None or is_new(folder):
        return
    flavour, _, version = made_by.partition(" ")
    then = tuple(int(part) for part in version.split("."))
    # Valkey split off at 7.2 and reads what Redis wrote up to then; neither reads later files of the other.
    from_redis = flavour == "redis" and now.flavour == "valkey" and then[:2] <= (7, 2)
    if not from_redis and (flavour != now.flavour or then[:2] > now.version[:2]):
        raise StackError(
            f"The data in {folder.path} was made by {made_by}, which {now} cannot read: use that one "
            "(FAIRLINE_REDIS_PROVIDER chooses between path and embedded), or name a new folder with --data."
        )


def _append_only_file(folder: Path) -> Path:
    return folder / "redis" / "appendonlydir"
