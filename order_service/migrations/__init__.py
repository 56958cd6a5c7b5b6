"""The schema of Postgres, forward only. Run by ``python -m order_service.migrate``; operators may read the SQL."""
