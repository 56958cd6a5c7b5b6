"""Dead letters and what was done with them, and the audit log."""

from alembic import op

from order_service.migrations.statements import statements

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """The statements of ``0004_dead_letters.sql``."""
    for statement in statements("0004_dead_letters"):
        op.execute(statement)
