"""Which errors are about the data of a record (*never*), and which about the moment (*later*), as rule V6 has it."""

import asyncpg
import pytest

from order_service.postgres import is_never


class _DriverError(asyncpg.InterfaceError, ValueError):
    """As the driver raises it for an argument that it cannot encode."""


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError(""),
        asyncpg.CheckViolationError(""),
        asyncpg.ForeignKeyViolationError(""),
        asyncpg.NumericValueOutOfRangeError(""),
        asyncpg.CharacterNotInRepertoireError(""),
        asyncpg.DataError(""),
        _DriverError(""),
    ],
    ids=lambda error: type(error).__name__,
)
def test_v6_data_and_constraint_errors_are_never(error: Exception) -> None:
    assert is_never(error)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DeadlockDetectedError(""),
        asyncpg.SerializationError(""),
        asyncpg.AdminShutdownError(""),
        asyncpg.CannotConnectNowError(""),
        asyncpg.TooManyConnectionsError(""),
        asyncpg.DiskFullError(""),
        asyncpg.QueryCanceledError(""),
        asyncpg.ReadOnlySQLTransactionError(""),
        asyncpg.UndefinedTableError(""),
        asyncpg.InterfaceError(""),
        ConnectionResetError(),
        TimeoutError(),
        ValueError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_v6_everything_else_is_later(error: Exception) -> None:
    assert not is_never(error)
