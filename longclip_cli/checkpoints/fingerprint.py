"""Fingerprints: texts that change when the content of a checkpoint changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from longclip_cli.checkpoints.messages import errors_naming
from longclip_cli.checkpoints.names import CONFIG_FILE
from longclip_cli.checkpoints.state_dict import weight_files
from longclip_cli.errors import CheckpointError

BLOCKS, BLOCK_BYTES = 64, 16 * 2**10


def checkpoint_fingerprint(path: Path) -> str:
    """Return the fingerprints of all files that determine a checkpoint's network. Raise `CheckpointError`."""
    config = path.parent / CONFIG_FILE
    with errors_naming(path):
        files = [*weight_files(path), *([config] if config.is_file() else [])]
        try:
            return " ".join(map(file_fingerprint, files))
        except OSError as error:
            raise CheckpointError(f"it cannot be read: {error.strerror}") from error


def file_fingerprint(path: Path) -> str:
    """Return a hash of a file's size and of 64 blocks spread over it. Reads 1 MiB, however large the file is."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for block in range(BLOCKS):
            file.seek(block * max(0, size - BLOCK_BYTES) // (BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))
    return digest.hexdigest()[:16]
