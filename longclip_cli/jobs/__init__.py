"""A run from its inputs to its outputs: start, resume, stop."""
