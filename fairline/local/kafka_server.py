"""The stack's Kafka: one node that is broker and controller at once, formatted once, and the program."""

import asyncio
import base64
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from fairline.local import archive, jars, probes, providers
from fairline.local.child import Child
from fairline.local.errors import MissingError, StackError, full_disk, writing
from fairline.local.folder import DataFolder
from fairline.local.ports import LOOPBACK
from fairline.local.program import Program

# Paths are relative to Kafka's own folder: this file format would want them escaped, and splits them at
# commas.
_CONFIGURATION = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
# One node: everything has one copy.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Few internal partitions and threads: it starts sooner.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=4
# A broker that was killed is let in again only when its old session ends; by default after 9 s.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# So that tests need not wait for the 6 s that a broker demands by default (FAIRLINE_KAFKA_SESSION_S).
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=4
# Topics are made by fairline.stream.topics and by nothing else.
auto.create.topics.enable=false
# The first reader of a group need not wait for others.
group.initial.rebalance.delay.ms=0
log.retention.hours=168
log.segment.bytes=134217728
# The default of 128 MB is half of the memory it gets here.
log.cleaner.dedupe.buffer.size=16777216
"""
_LOGGING = """\
status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.started.name = kafka.server.KafkaRaftServer
logger.started.level = info
"""
JAVA_OPTIONS = (
    "-Xms64m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",  # would write below the system's folder for temporary files
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dlog4j2.configurationFile=log4j2.properties",
)


async def program(
    folder: DataFolder,
    port: int,
    controller_port: int,
    environ: Mapping[str, str],
    *,
    java_options: Sequence[str] | None = None,
) -> Program:
    """Format the data folder if it is new; the program to start.

    ``FAIRLINE_KAFKA_ADVERTISED`` names another address (``host:port``) under which clients are told to find
    the broker: a proxy that a test put in between. ``java_options`` takes the place of the class archive.

    Raises:
        StackError: no Java, no jars, jars that are not the expected ones, or data of a newer Kafka.
    """
    java = await asyncio.to_thread(providers.java, environ)
    version, libs = await asyncio.to_thread(libraries, environ)
    _check_data(folder, version)
    home = folder.path / "kafka"
    addresses = {"host": LOOPBACK, "port": port, "controller_port": controller_port}
    addresses["advertised"] = environ.get("FAIRLINE_KAFKA_ADVERTISED") or f"{LOOPBACK}:{port}"
    with writing(folder.path):
        (home / "tmp").mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "server.properties").write_text(_CONFIGURATION.format(**addresses, data="data"))
        (home / "format.properties").write_text(_CONFIGURATION.format(**addresses, data="data.new"))
        (home / "log4j2.properties").write_text(_LOGGING)
    if java_options is None:
        java_options = archive.options(java, libs)
    temporary = f"-Djava.io.tmpdir={home / 'tmp'}"
    command = [str(java.path), *JAVA_OPTIONS, *java_options, temporary, "-cp", f"{libs}/*"]
    # The locale decides how Java reads file names.
    env = {"PATH": os.defpath, "HOME": str(home), "LC_ALL": "C.UTF-8"}
    if not (home / "data").exists():
        await _format(folder, home, command, env)
    folder.remember({"kafka": ".".join(map(str, version))})
    return Program(
        name="kafka",
        argv=[*command, "kafka.Kafka", "server.properties"],
        env=env,
        cwd=home,
        ready=probes.kafka(port),
        ready_within_s=60,
    )


async def _format(folder: DataFolder, home: Path, command: list[str], env: Mapping[str, str]) -> None:
    """Under another name first, so that a half-made folder is never taken for one."""
    draft = home / "data.new"
    await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    tool = Program(
        name="kafka-format",
        # With the equals sign: an id may begin with a dash.
        argv=[
            *command,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster}",
            "-c",
            "format.properties",
        ],
        env=env,
        cwd=home,
    )
    child = await Child.start(tool, folder.logs / "kafka.log")
    try:
        code = await child.ended()
    finally:
        await child.stop()
    if code != 0:
        if "No space left on device" in child.last_words():
            raise full_disk(folder.path)
        raise StackError(f"Kafka could not make its data folder: look into {child.log}.{child.last_words()}")
    with writing(folder.path):
        draft.rename(home / "data")


def libraries(environ: Mapping[str, str]) -> tuple[tuple[int, ...], Path]:
    """The version and the folder of jars: a Kafka on PATH, or the checked ones from set-up."""
    chosen = providers.way("kafka", environ)
    found = providers.kafka_on_path(environ) if chosen in {"auto", "path"} else None
    if found is not None:
        return found.version, found.path
    if chosen == "path":
        raise MissingError(
            "No Kafka 4 was found: put its bin folder, with kafka-server-start.sh, on PATH, "
            "or leave FAIRLINE_KAFKA_PROVIDER at auto."
        )
    folder = jars.folder(environ)
    jars.check(folder)
    return jars.VERSION, folder


def _check_data(folder: DataFolder, now: tuple[int, ...]) -> None:
    made_by = folder.made_by().get("kafka")
    if made_by and (folder.path / "kafka" / "data").exists() and tuple(map(int, made_by.split("."))) > now:
        raise StackError(
            f"The data in {folder.path} was made by Kafka {made_by}, which is newer than this one: "
            "use that one, or name a new folder with --data."
        )
