"""What can become of a record, and what the writer asks of those who know one kind of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fairline.events import Fact
from fairline.stream.reader import Record


@dataclass(frozen=True)
class Done:
    """Committed, or nothing to commit; ``facts`` are to be published before the offset may pass.

    ``given_up``: the verdict found says that the ticket was given up, so that a dead letter may still be owed.
    """

    facts: tuple[Fact, ...] = ()
    given_up: bool = False


@dataclass(frozen=True)
class Wait:
    """*Later*: Postgres does not know yet what this record needs."""

    why: str


Outcome = Done | Wait


class Handler(Protocol):
    """One kind of records. ``write`` and ``give_up`` may be repeated, and give the same facts of a record again."""

    def fault(self, record: Record) -> str | None:
        """Why this record is none that ``write`` can be given, or nothing. No I/O."""

    def comes_again(self, record: Record, /) -> bool:
        """Whether admission sends it again as long as nothing is heard of it, so that it may be passed over. No I/O."""

    async def write(self, records: Sequence[Record]) -> list[Outcome]:
        """Commit all of them in one transaction; an outcome for each, in their order.

        Raises ``RefusedError`` when one of them can never be written (nothing was committed then), and
        ``UnavailableError`` when Postgres could not be asked or did not say.
        """

    async def give_up(self, record: Record, /) -> Outcome:
        """Commit that this record can never be written, as far as it can be told whose it is; errors as above."""
