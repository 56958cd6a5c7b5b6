"""The tickets of a sale in the order of their ids."""

from alembic import op

from order_service.migrations.statements import statements

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """The statements of ``0003_tickets_of_a_sale.sql``."""
    for statement in statements("0003_tickets_of_a_sale"):
        op.execute(statement)
