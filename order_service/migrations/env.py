"""Runs the migrations on the connection that ``order_service.migrate`` opened, each in a transaction of its own."""

from alembic import context


def run() -> None:
    """Called by alembic, with the connection among the attributes of its configuration."""
    context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


run()
