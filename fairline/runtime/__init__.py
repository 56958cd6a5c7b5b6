"""The life of a process: settings, logs, metrics, health, retries, start and stop. Knows no service."""
