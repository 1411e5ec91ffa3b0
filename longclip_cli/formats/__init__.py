"""Bytes to rows, and rows with their results to bytes."""
