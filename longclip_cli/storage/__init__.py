"""Bytes in and out: streams, compression, locks, files that are replaced whole."""
