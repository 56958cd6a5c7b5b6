"""How commands print: a table on a terminal, plain columns into a pipe, JSON when asked."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairline.cli.client import Address, Operator, address
from fairline.local.folder import DEFAULT

T = TypeVar("T")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Asking:
    """Where to ask, and how to print. Flags win over the environment, that over the stack of the data folder."""

    url: Annotated[str | None, Parameter(help="Address of the gateway; else FAIRLINE_GATEWAY_URL.")] = None
    key: Annotated[str | None, Parameter(help="Operator key; else FAIRLINE_OPERATOR_KEY or its _FILE.")] = None
    data: Annotated[Path, Parameter(help="Folder of the local stack.", env_var="FAIRLINE_DATA")] = DEFAULT
    json: Annotated[bool, Parameter(help="Print the answer as JSON.", negative=())] = False

    def address(self) -> Address:
        """The gateway and its key; raises ``CliError``."""
        return address(self.url, self.key, data=self.data)

    def ask(self, call: Callable[[Operator], Awaitable[T]]) -> T:
        """One call, or several on one connection."""
        at = self.address()

        async def once() -> T:
            async with Operator(at) as operator:
                return await call(operator)

        return asyncio.run(once())


ASKING = Asking()


def show_json(value: Any) -> None:
    """Bytes are JSON already; everything else is encoded."""
    raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
    sys.stdout.write(msgspec.json.format(raw, indent=2).decode() + "\n")


def show_rows(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; in a pipe without frames, colours and folding, so that it can be cut and sorted."""
    texts = [["-" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in texts:
            print("\t".join(row))
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in texts:
        table.add_row(*map(Text, row))  # as it is: what stands in brackets is no markup
    Console().print(table)


def show_pairs(pairs: Sequence[tuple[str, object]]) -> None:
    """Names and values, one a line; what has no value is left out, and what has more lines keeps its column."""
    shown = [(name, value) for name, value in pairs if value is not None]
    width = max(len(name) for name, _ in shown)
    next_line = "\n" + " " * (width + 2)
    for name, value in shown:
        text = str(value).replace("\n", next_line)
        print(f"{name:<{width}}  {text}")
