"""Set-up of the local stack: brings the jars of Kafka into the environment and checks each against the lock.

``python -m fairline.local.prepare`` is what ``make setup`` runs; the second time it only checks. After it the
stack needs no internet. Everything is written below the environment. A mirror of Maven's repository can be
named in jgo's own settings file; ``--lock`` resolves the dependencies again and writes the lock, which is for
a new Kafka version.
"""

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from fairline.local import archive as archives
from fairline.local import jars, kafka_server, ports, providers
from fairline.local.errors import StackError, writing
from fairline.local.folder import DataFolder
from fairline.local.supervisor import Supervisor

_KAFKA = "org.apache.kafka:kafka_2.13:4.4.0"
# Without a binding of its logging interface Kafka says nothing at all; its own distribution ships this one.
_LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5"
_AT_ONCE = 8


def prepare(target: Path, lock: Path = jars.LOCK) -> bool:
    """Bring the jars of the lock into ``target``; ``False`` when they were there already.

    Raises:
        StackError: they cannot be fetched, or one is not what the lock says; ``target`` is not touched then.
    """
    try:
        jars.check(target, lock)
    except StackError:
        pass
    else:
        return False
    draft = target.with_name(f"{target.name}.new")
    cache = target.with_name("maven")
    with writing(target.parent):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        repository = _repository(cache)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            for file in threads.map(lambda path: _fetch(repository, path), jars.locked(lock)):
                shutil.copyfile(file, draft / file.name)
        try:
            jars.check(draft, lock)
        except StackError:
            shutil.rmtree(cache, ignore_errors=True)  # or the next try would take the same file from there
            raise
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
        shutil.rmtree(cache, ignore_errors=True)
    return True


def write_lock(cache: Path, lock: Path = jars.LOCK) -> int:
    """Resolve what Kafka needs and write the hashes; how many jars."""
    repository = _repository(cache)
    wanted = [repository.create_dependency(name) for name in (_KAFKA, _LOGGING)]
    # What the binding needs itself, Kafka brings along in the right version.
    _, needed = repository.resolver.resolve(wanted[:1])
    found = [one.artifact for one in [*wanted, *needed] if one in wanted or one.scope in {"compile", "runtime"}]
    files = sorted({Path(artifact.resolve()) for artifact in found})
    lock.write_text("".join(f"{jars.sha256(file)}  {file.relative_to(cache).as_posix()}\n" for file in files))
    shutil.rmtree(cache, ignore_errors=True)
    return len(files)


async def speed_up(target: Path, environ: Mapping[str, str]) -> None:
    """Make the class archive unless it is there; Kafka works without one, so that a failure is only told."""
    try:
        java = providers.java(environ)
        archive = archives.place(java, target)
        if archive.exists():
            return
        with tempfile.TemporaryDirectory(prefix="archive-", dir=target.parent) as temporary:
            classes, draft = Path(temporary) / "classes", Path(temporary) / archive.name
            await _list_classes(DataFolder(Path(temporary) / "data"), classes, environ)
            options = [*kafka_server.JAVA_OPTIONS, f"-XX:SharedClassListFile={classes}", "-Xshare:dump"]
            process = await asyncio.create_subprocess_exec(
                *(str(java.path), *options, f"-XX:SharedArchiveFile={draft}", "-cp", f"{target}/*"),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            if await process.wait() == 0:
                draft.rename(archive)
    except (StackError, OSError) as error:
        print(f"Kafka will start a second later than it could: {error}")


async def _list_classes(folder: DataFolder, classes: Path, environ: Mapping[str, str]) -> None:
    """Start a Kafka once and have Java write down which classes it loads."""
    folder.open()
    supervisor = Supervisor(folder.logs, say=print)
    try:
        chosen = ports.choose(["kafka", "controller"], kept_in=folder.ports_file, forced={}, say=print)
        program = await kafka_server.program(
            folder,
            chosen["kafka"],
            chosen["controller"],
            {**environ, "FAIRLINE_KAFKA_PROVIDER": "embedded"},
            java_options=[f"-XX:DumpLoadedClassList={classes}"],
        )
        await supervisor.start(program)
    finally:
        await supervisor.stop(supervisor.names)
        folder.close()


def _repository(cache: Path) -> Any:
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - of the extra, needed here only
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
        from jgo.maven import MavenContext  # noqa: PLC0415
    except ImportError:
        raise StackError(
            "jgo, which brings the jars of Kafka, is not installed: pip install 'fairline[embedded]'."
        ) from None
    sources = {"central": MAVEN_CENTRAL_URL, **GlobalSettings.load().repositories}
    return MavenContext(repo_cache=cache, remote_repos=sources, timeout=60)


def _fetch(repository: Any, path: PurePosixPath) -> Path:
    *group, name, version, file = path.parts
    artifact = repository.project(".".join(group), name).at_version(version).artifact()
    try:
        fetched = Path(artifact.resolve())
    except Exception as error:
        raise StackError(
            f"{file} could not be fetched ({error}): is there internet? Then run make setup again."
        ) from error
    if fetched.name != file:
        raise StackError(f"{fetched.name} came instead of {file}: write the lock again.")
    return fetched


def main() -> None:
    """The command."""
    target = jars.folder(os.environ)
    try:
        if sys.argv[1:] == ["--lock"]:
            print(f"{jars.LOCK.name}: {write_lock(target.with_name('maven'))} jars")
        else:
            if prepare(target):
                print(f"Kafka is ready in {target}")
            asyncio.run(speed_up(target, os.environ))
    except StackError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
