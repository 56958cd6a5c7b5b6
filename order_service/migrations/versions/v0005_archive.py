"""Every ticket of an archived sale."""

from alembic import op

from order_service.migrations.statements import statements

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """The statements of ``0005_archive.sql``."""
    for statement in statements("0005_archive"):
        op.execute(statement)
