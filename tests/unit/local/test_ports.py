import json
import socket
from pathlib import Path

import pytest

from fairline.local import ports
from fairline.local.errors import StackError


def choose(names: list[str], kept_in: Path, **forced: int) -> tuple[dict[str, int], list[str]]:
    said: list[str] = []
    return ports.choose(names, kept_in=kept_in, forced=forced, say=said.append), said


def test_ports_are_kept_for_the_next_time(tmp_path: Path) -> None:
    first, _ = choose(["redis", "kafka"], tmp_path / "ports.json")
    second, said = choose(["redis", "kafka", "gateway"], tmp_path / "ports.json")
    assert first.items() <= second.items()
    assert len(set(second.values())) == 3
    assert said == []


@pytest.mark.parametrize("text", ["", '{"redis": 12'])
def test_a_file_of_ports_that_a_crash_cut_off_is_written_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    chosen, _ = choose(["redis"], tmp_path / "ports.json")
    assert json.loads((tmp_path / "ports.json").read_text()) == chosen


def test_a_kept_port_that_is_taken_by_now_is_replaced_with_a_line_that_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps({"gateway": taken}))
        chosen, said = choose(["gateway"], tmp_path / "ports.json")
    assert chosen["gateway"] != taken
    assert said == [f"port {taken} of gateway is taken by now, using {chosen['gateway']}"]


def test_a_forced_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(StackError, match=f"Port {taken} for gateway is taken: stop what listens there"):
            choose(["gateway"], tmp_path / "ports.json", gateway=taken)


def test_one_port_cannot_be_forced_for_two(tmp_path: Path) -> None:
    free, _ = choose(["x"], tmp_path / "other.json")
    with pytest.raises(StackError, match="is taken"):
        choose(["gateway", "notifier"], tmp_path / "ports.json", gateway=free["x"], notifier=free["x"])


def test_a_port_of_outgoing_connections_is_never_chosen(tmp_path: Path) -> None:
    chosen, _ = choose([f"p{number}" for number in range(50)], tmp_path / "ports.json")
    assert max(chosen.values()) < 32768
