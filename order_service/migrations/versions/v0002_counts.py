"""Counts of sales."""

from alembic import op

from order_service.migrations.statements import statements

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """The statements of ``0002_counts.sql``."""
    for statement in statements("0002_counts"):
        op.execute(statement)
