"""The eight invariants of the design, each decided by one function over one ``Case``."""
