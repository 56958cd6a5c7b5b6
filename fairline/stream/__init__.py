"""Kafka: one reader, one writer, and the command that makes the topics. Knows no service."""
