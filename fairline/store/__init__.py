"""Redis: every key, the script caller and the waiting room. Knows no service."""
