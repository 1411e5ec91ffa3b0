"""Bytes in and out: streams, compression, files that are replaced whole."""
