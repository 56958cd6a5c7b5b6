"""The only writer of Postgres: orders and their verdicts, sales, history. Any number of copies may run."""
