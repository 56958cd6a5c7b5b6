"""Sales, orders, units sold, history."""

from alembic import op

from order_service.migrations.statements import statements

revision = "0001"
down_revision = None


def upgrade() -> None:
    """The statements of ``0001_orders.sql``."""
    for statement in statements("0001_orders"):
        op.execute(statement)
