"""Compares a sale in Redis with the same sale in Postgres and on Kafka; mends what is safe to mend."""
