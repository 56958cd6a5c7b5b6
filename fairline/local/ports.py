"""Loopback ports: chosen once, kept in the data folder, checked before use.

They are taken below the range from which the kernel gives ports to outgoing connections. A thousand clients
of the stack would otherwise sooner or later sit on the port of a server that was just killed, and keep it
from coming back.
"""

import json
import random
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from fairline.local.errors import StackError
from fairline.local.folder import write_atomically

LOOPBACK = "127.0.0.1"
_FIRST, _LAST = (
    12_000,
    30_000,
)  # below 32768 (Linux) and 49152 (others), where outgoing connections get theirs
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        # As servers do; without it a port whose last connection closed a minute ago looks taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def choose(names: list[str], *, kept_in: Path, forced: Mapping[str, int], say: Callable[[str], None]) -> dict[str, int]:
    """A port for each name: the forced one, else that of last time, else a free one; written to ``kept_in``.

    Raises:
        StackError: a forced port is taken or no port.
    """
    kept = _kept(kept_in)
    chosen: dict[str, int] = {}
    for name in names:
        if name in forced:
            chosen[name] = _forced(name, forced[name], used=chosen)
        elif name in kept and kept[name] not in chosen.values() and is_free(kept[name]):
            chosen[name] = kept[name]
        else:
            chosen[name] = _any_free(used={*chosen.values(), *kept.values(), *forced.values()})
            if name in kept:
                say(f"port {kept[name]} of {name} is taken by now, using {chosen[name]}")
    write_atomically(kept_in, json.dumps({**kept, **chosen}, indent=2) + "\n")
    return chosen


def _kept(file: Path) -> dict[str, int]:
    try:
        kept: dict[str, int] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):  # cut off by a crash: other ports do as well
        return {}
    return kept


def _forced(name: str, port: int, *, used: Mapping[str, int]) -> int:
    if port in used.values() or not is_free(port):
        raise StackError(
            f"Port {port} for {name} is taken: stop what listens there, or choose another with "
            f"--port {name}={port + 1}."
        )
    return port


def _any_free(*, used: set[int]) -> int:
    for _ in range(_TRIES):
        port = random.randrange(_FIRST, _LAST)  # noqa: S311 - nothing secret about a port
        if port not in used and is_free(port):
            return port
    raise StackError(f"No free port between {_FIRST} and {_LAST} on {LOOPBACK}: stop some other programs first.")
