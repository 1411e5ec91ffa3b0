"""Operators for other people's engines."""
