"""Counts, progress and messages of a run."""
