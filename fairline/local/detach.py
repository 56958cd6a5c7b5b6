"""``fairline up --detach``: the stack in a process of its own session, which the terminal does not take along.

The process tells its parent over its standard output until it is ready, and writes into ``logs/stack.log``
from then on. As ``python -m fairline.local.detach OPTIONS`` it is that process.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fairline.local.errors import StackError
from fairline.local.run import Options, Run

_READY = "READY"


def start(options: Options, environ: Mapping[str, str]) -> str:
    """Start it and wait until it is ready; the table of addresses.

    Raises:
        StackError: it could not be started; the sentence is its own.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "fairline.local.detach", msgspec.json.encode(options).decode()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environ),
        start_new_session=True,
    )
    said: list[str] = []
    assert process.stdout is not None  # noqa: S101 - asked for above
    with process.stdout:
        try:
            for line in process.stdout:
                if line.rstrip() == _READY:
                    process.returncode = 0  # it goes on without us, and nobody waits for it
                    return "".join(said)
                said.append(line)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
    process.wait()
    raise StackError("".join(said).strip() or f"The stack ended with exit code {process.returncode}.")


def _to_log(log: Path) -> None:
    """From here on nobody reads the pipe."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def main() -> None:
    """The process of its own."""
    options = msgspec.json.decode(sys.argv[1], type=Options)

    def ready(table: str) -> None:
        print(table, _READY, sep="\n", flush=True)
        _to_log(Path(options.data) / "logs" / "stack.log")

    def nothing(line: str) -> None:
        """It is in the log."""

    try:
        asyncio.run(Run(options, os.environ, nothing).serve(ready))
    except StackError as error:
        print(error, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
