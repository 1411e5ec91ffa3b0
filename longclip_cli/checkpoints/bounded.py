"""Reading of files that may claim anything: sizes are checked before the content is read into memory.

A checkpoint is a large block of numbers and a small description of them. Only the description becomes Python objects,
so only the description can take many times more memory than it takes in the file.
"""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from longclip_cli.checkpoints.messages import reason
from longclip_cli.errors import CheckpointError

# The limit for a pickle, a header, an index or a config. A pickle takes about 150 bytes per tensor, and LongCLIP-L has
# 450 tensors.
DESCRIPTION_BYTES = 2 * 2**20


def check_regular(path: Path, name: str) -> None:
    """Raise `CheckpointError` unless a file is regular, or a link to a regular one. The message calls it `name`.

    Reading a FIFO or a device may never end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name} cannot be read: {reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{name} is not a regular file")


def read_json(path: Path, name: str) -> Any:
    """Return the value in a JSON file. Raise a `CheckpointError` that calls the file `name`."""
    check_regular(path, name)
    try:
        with path.open("rb") as file:
            return parse_json(file.read(DESCRIPTION_BYTES + 1), name)
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {reason(error)}") from error


def parse_json(text: str | bytes, name: str) -> Any:
    """Return the value in a JSON text. Raise a `CheckpointError` that calls the text `name`."""
    if len(text) > DESCRIPTION_BYTES:
        raise CheckpointError(f"{name} cannot be read: larger than {DESCRIPTION_BYTES >> 20} MiB")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise CheckpointError(f"{name} cannot be read: nested too deeply") from error
    except ValueError as error:
        raise CheckpointError(f"{name} cannot be read: {error}") from error


def check_header(path: Path) -> None:
    """Raise `CheckpointError` if the header of a safetensors file is too large."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > DESCRIPTION_BYTES:
        raise CheckpointError(f"not a readable safetensors file: its header claims {size:,} bytes")
