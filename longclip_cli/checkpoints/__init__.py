"""From a model reference to a loaded network: find, download, read, check and convert checkpoints."""
