"""The stack's Postgres: a cluster made once, a password, version check, and the program."""

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from fairline.local import drop_root, probes, providers
from fairline.local.child import Child
from fairline.local.errors import StackError, full_disk, writing
from fairline.local.folder import DataFolder, write_atomically
from fairline.local.ports import LOOPBACK
from fairline.local.program import Program

USER = DATABASE = "fairline"
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    # An acknowledged commit is never lost: the guarantees of a sale rest on it, here as anywhere.
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_size": "512MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "huge_pages": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}


def dsn(folder: DataFolder, port: int, database: str = DATABASE) -> str:
    """With the password that is kept in the folder: other users of the machine reach the port too."""
    return f"postgresql://{USER}:{folder.secret('postgres_password')}@{LOOPBACK}:{port}/{database}"


async def program(folder: DataFolder, port: int, environ: Mapping[str, str]) -> Program:
    """Make the cluster if there is none; the program to start.

    Raises:
        StackError: no Postgres, or the data was made by another major version.
    """
    found = await asyncio.to_thread(providers.postgres, environ)
    home = folder.path / "postgres"
    stand = await asyncio.to_thread(drop_root.footing, home, found.path)
    env = {"PATH": os.defpath, "HOME": str(stand.home), "LC_ALL": "C", "TZ": "UTC"}
    made_by = _made_by(stand.home / "data")
    if made_by is None:
        await _make_cluster(folder, stand, env)
    elif made_by != found.version[0]:
        raise StackError(
            f"The data in {folder.path} was made by Postgres {made_by}, which {found} cannot read: use that "
            "one (FAIRLINE_POSTGRES_PROVIDER is path or embedded), or name a new folder with --data."
        )
    else:
        _forget_stale_pid(stand.home / "data" / "postmaster.pid")
    settings = [part for name, value in {**_SETTINGS, "port": str(port)}.items() for part in ("-c", f"{name}={value}")]
    return Program(
        name="postgres",
        argv=[str(stand.postgres), "-D", "data", *settings],
        env=env,
        cwd=stand.home,
        ready=probes.postgres(dsn(folder, port, "postgres")),
        ready_within_s=60,  # recovery after a crash
        stop_signal=signal.SIGINT,  # "fast": ends the sessions instead of waiting for them
        death_signal=signal.SIGQUIT,  # "immediate": takes its own children along
        wrapper=stand.wrapper,
        user=stand.user,
    )


async def create_database(folder: DataFolder, port: int) -> None:
    """Make the database ``fairline``; nothing to do when it is there."""
    connection = await asyncpg.connect(dsn(folder, port, "postgres"))
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()


async def _make_cluster(folder: DataFolder, stand: drop_root.Footing, env: Mapping[str, str]) -> None:
    """Under another name first, so that a half-made cluster is never taken for one."""
    draft, password = stand.home / "data.new", stand.home / "password"
    await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
    write_atomically(password, folder.secret("postgres_password"))
    if stand.user != "-":
        uid, gid = (int(part) for part in stand.user.split(":"))
        os.chown(password, uid, gid)
    options = "--auth=scram-sha-256 --encoding=UTF8 --locale=C --no-instructions"
    initdb = Program(
        name="initdb",
        argv=[
            str(stand.postgres.with_name("initdb")),
            *("-D", draft.name, "-U", USER, f"--pwfile={password.name}"),
            *options.split(),
        ],
        env=env,
        cwd=stand.home,
        wrapper=stand.wrapper,
        user=stand.user,
    )
    child = await Child.start(initdb, folder.logs / "postgres.log")
    try:
        code = await child.ended()
    finally:
        await child.stop()
        password.unlink()
    if code != 0:
        if "No space left on device" in child.last_words():
            raise full_disk(folder.path)
        raise StackError(f"Postgres could not make its data folder: look into {child.log}.{child.last_words()}")
    with writing(folder.path):
        draft.rename(stand.home / "data")


def _made_by(data: Path) -> int | None:
    version = data / "PG_VERSION"
    return int(version.read_text().split(".")[0]) if version.exists() else None


def _forget_stale_pid(pid_file: Path) -> None:
    """After a crash of the machine the number in the file may belong to another program by now.

    Postgres would take that one for a Postgres and refuse to start. Ours is not running: this stack holds the
    folder, and its children die with it.
    """
    if not pid_file.exists():
        return
    pid = pid_file.read_text().partition("\n")[0].strip()
    command = Path(f"/proc/{pid}/comm")
    if Path("/proc/self/comm").exists() and not (command.exists() and command.read_text().startswith("postgres")):
        pid_file.unlink()
