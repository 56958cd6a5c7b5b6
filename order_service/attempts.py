"""Counts failed attempts of single records where a crash keeps them: in Postgres (V6)."""

from collections.abc import Sequence
from typing import Final

from fairline.errors import UnavailableError
from fairline.runtime import logs
from fairline.stream.reader import Record
from order_service.postgres import Postgres
from order_service.queries import query

log = logs.get(__name__)

REASON_LENGTH: Final = 1000


class Attempts:
    """The table of attempts."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def count(self, record: Record, reason: str, most: int) -> int:
        """Count one more, up to ``most``; which one it was. Raises ``UnavailableError``."""
        # A reason may quote the very text that Postgres does not take.
        said = reason.replace("\x00", "\ufffd").encode(errors="replace").decode()[:REASON_LENGTH]
        async with self._postgres.transaction() as connection:
            count: int = await connection.fetchval(
                query("count_attempt"), record.topic, record.partition, record.offset, said, most
            )
        return count

    async def of(self, records: Sequence[Record]) -> list[tuple[Record, int, str]]:
        """Those of the records that failed before: how often, and why. Raises ``UnavailableError``."""
        async with self._postgres.connection() as connection:
            rows = await connection.fetch(query("attempts_of"), *_places(records))
        known = {(row["topic"], row["partition"], row["offset"]): row for row in rows}
        found = ((record, known.get((record.topic, record.partition, record.offset))) for record in records)
        return [(record, row["count"], row["reason"]) for record, row in found if row is not None]

    async def forget(self, records: Sequence[Record]) -> None:
        """Forget those whose offset is committed. When that fails a few rows stay, which harm nobody."""
        if not records:
            return
        try:
            async with self._postgres.transaction() as connection:
                await connection.execute(query("forget_attempts"), *_places(records))
        except UnavailableError as error:
            log.info("attempts are not forgotten", records=len(records), error=str(error))


def _places(records: Sequence[Record]) -> tuple[list[str], list[int], list[int]]:
    return (
        [record.topic for record in records],
        [record.partition for record in records],
        [record.offset for record in records],
    )
