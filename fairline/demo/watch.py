"""How many units Postgres has sold, looked at while the sale runs: for the figures, nothing is judged by it."""

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Final, Self

import asyncpg

from fairline.runtime.services import cancelled

EVERY_S: Final = 0.025
ANSWER_WITHIN_S: Final = 10.0


class Watch:
    """``rows`` units are sold, the last of them since ``last_row_s``; use ``async with``. While it is away: no news."""

    def __init__(self, postgres_dsn: str, sale_id: str) -> None:
        self.rows = 0
        self.last_row_s = 0.0
        self._dsn, self._sale_id = postgres_dsn, sale_id

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look(), name="postgres")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancelled(self._looking)

    async def _look(self) -> None:
        postgres: asyncpg.Connection | None = None
        try:
            while True:
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    if postgres is None or postgres.is_closed():
                        postgres = await asyncpg.connect(
                            self._dsn, timeout=ANSWER_WITHIN_S, command_timeout=ANSWER_WITHIN_S
                        )
                    count = await postgres.fetchval("SELECT count(*) FROM sold WHERE sale_id = $1", self._sale_id)
                    if count != self.rows:
                        self.rows, self.last_row_s = count, time.monotonic()
                await asyncio.sleep(EVERY_S)
        finally:
            if postgres is not None:
                postgres.terminate()
