"""Rows to results, bounded in memory and in order."""
