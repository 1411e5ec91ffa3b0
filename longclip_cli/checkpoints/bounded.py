"""Files that may claim anything: what is read of them into memory is bounded before it is read.

A checkpoint is a large block of numbers and a small description of them. Only the description is built up as Python
objects, so only that can take many times the memory that it takes in the file.
"""

from __future__ import annotations

import json
import reprlib
import stat
from pathlib import Path
from typing import Any

from longclip_cli.errors import CheckpointError

# Of a pickle, a header, an index or a config. A pickle has about 150 bytes for each tensor, and LongCLIP-L 450 tensors.
DESCRIPTION_BYTES = 2 * 2**20
SHOWN_CHARACTERS = 80


def shown(value: object) -> str:
    """Return a value as messages quote it: on one line, cut at 80 characters."""
    text = repr(value[: SHOWN_CHARACTERS + 1])[1:-1] if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def check_regular(path: Path, name: str) -> None:
    """Raise `CheckpointError` unless a file, which the message calls `name`, is a regular one or a link to one.

    Reading a FIFO or a device may never end.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{name} cannot be read: {reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise CheckpointError(f"{name} is not a regular file")


def read_json(path: Path, name: str) -> Any:
    """Return what a JSON file holds; raise a `CheckpointError` that calls it `name`."""
    check_regular(path, name)
    try:
        with path.open("rb") as file:
            return parse_json(file.read(DESCRIPTION_BYTES + 1), name)
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {reason(error)}") from error


def parse_json(text: str | bytes, name: str) -> Any:
    """Return what a JSON text holds; raise a `CheckpointError` that calls it `name`."""
    if len(text) > DESCRIPTION_BYTES:
        raise CheckpointError(f"{name} cannot be read: larger than {DESCRIPTION_BYTES >> 20} MiB")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise CheckpointError(f"{name} cannot be read: nested too deeply") from error
    except ValueError as error:
        raise CheckpointError(f"{name} cannot be read: {error}") from error


def check_header(path: Path) -> None:
    """Raise `CheckpointError` for a safetensors file whose header is too large."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > DESCRIPTION_BYTES:
        raise CheckpointError(f"not a readable safetensors file: its header claims {size:,} bytes")


def reason(error: Exception) -> str:
    """Return what went wrong, without the path, which the message names anyway."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
