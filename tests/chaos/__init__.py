"""A package, so that the stack of its tests ends with them: pytest keeps that of a mere folder until the very end."""
