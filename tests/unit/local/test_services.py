from pathlib import Path

import pytest

from fairline.local import services
from fairline.local.errors import StackError
from fairline.local.servers import Addresses
from fairline.local.services import SERVICES
from fairline.local.stack import forced_by, port_number

PORTS = {"gateway": 1, "gateway-2": 2, "admission": 3, "order_service": 4, "notifier": 5, "notifier-internal": 6}
AT = Addresses("redis://127.0.0.1:7/0", "postgresql://fairline:x@127.0.0.1:8/fairline", "127.0.0.1:9")


def given(environ: dict[str, str]) -> dict[str, str]:
    return services.environment(environ, ports=PORTS, addresses=AT, token_keys="local:secret")


def test_further_copies_are_numbered_and_have_ports_of_their_own() -> None:
    copies = services.copies(SERVICES, {"gateway": 2})
    assert [copy.name for copy in copies] == ["gateway", "gateway-2", "admission", "order_service", "notifier"]
    assert services.port_names(copies) == list(PORTS)


@pytest.mark.parametrize(("wanted", "sentence"), [({"gatway": 2}, "no service gatway"), ({"gateway": 0}, "0 copies")])
def test_copies_that_make_no_sense_are_refused(wanted: dict[str, int], sentence: str) -> None:
    with pytest.raises(StackError, match=sentence):
        services.copies(SERVICES, wanted)


def test_what_the_user_set_reaches_the_services_and_the_stacks_own_settings_do_not() -> None:
    env = given(
        {
            "PATH": "/bin",
            "FAIRLINE_ADMISSION_LEASE_MS": "5000",
            "FAIRLINE_PROVIDER": "embedded",
            "FAIRLINE_JAVA_PROVIDER": "path",
            "FAIRLINE_GATEWAY_2_PORT": "8080",
            "FAIRLINE_DATA": "x",
            "FAIRLINE_KAFKA_ADVERTISED": "127.0.0.1:1",
            "FAIRLINE_POSTGRES_DSN_FILE": "/secret",
            "FAIRLINE_REDIS_URL": "redis://elsewhere",
            "FAIRLINE_INTERNAL_PORT": "1",
        }
    )
    ours = {name for name in env if name.startswith("FAIRLINE_")}
    assert ours == {
        "FAIRLINE_ADMISSION_LEASE_MS",
        "FAIRLINE_DRAIN_S",
        "FAIRLINE_GATEWAY_LINGER_S",
        "FAIRLINE_REDIS_URL",
        "FAIRLINE_KAFKA",
        "FAIRLINE_POSTGRES_DSN",
        "FAIRLINE_TOKEN_KEYS",
        "FAIRLINE_LOG_FORMAT",
        "FAIRLINE_GATEWAY_URL",
        "FAIRLINE_NOTIFIER_URL",
        "FAIRLINE_ORDER_SERVICE_URL",
    }
    assert env["PATH"] == "/bin"
    assert env["FAIRLINE_REDIS_URL"] == AT.redis_url
    assert env["FAIRLINE_NOTIFIER_URL"] == "ws://127.0.0.1:5"
    assert env["FAIRLINE_ORDER_SERVICE_URL"] == "http://127.0.0.1:4"


@pytest.mark.parametrize("name", ["FAIRLINE_TOKEN_KEYS", "FAIRLINE_TOKEN_KEYS_FILE"])
def test_token_keys_of_the_environment_replace_the_stacks_own_so_that_they_can_be_rotated(name: str) -> None:
    env = given({name: "given"})
    assert {each: env[each] for each in env if "TOKEN_KEYS" in each} == {name: "given"}
    assert given({})["FAIRLINE_TOKEN_KEYS"] == "local:secret"


def test_each_process_gets_its_own_listeners_and_only_the_gateway_the_operators_key(tmp_path: Path) -> None:
    programs = {
        copy.name: services.program(copy, env={}, ports=PORTS, operator_key="key", cwd=tmp_path).env
        for copy in services.copies(SERVICES, {"gateway": 2})
    }
    assert programs["gateway-2"] == {
        "FAIRLINE_PROCESS": "gateway-2",
        "FAIRLINE_HOST": "127.0.0.1",
        "FAIRLINE_PORT": "2",
        "FAIRLINE_OPERATOR_KEY": "key",
    }
    assert programs["admission"] == {
        "FAIRLINE_PROCESS": "admission",
        "FAIRLINE_INTERNAL_HOST": "127.0.0.1",
        "FAIRLINE_INTERNAL_PORT": "3",
    }
    assert programs["notifier"]["FAIRLINE_PORT"] == "5"
    assert programs["notifier"]["FAIRLINE_INTERNAL_PORT"] == "6"


def test_a_port_in_the_environment_is_forced() -> None:
    assert forced_by({"FAIRLINE_GATEWAY_PORT": "8080"}, ["gateway", "redis"]) == {"gateway": 8080}


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "8080.5"])
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(StackError, match=r"FAIRLINE_GATEWAY_PORT is .*whole number from 1 to 65535"):
        port_number(text, "FAIRLINE_GATEWAY_PORT")
