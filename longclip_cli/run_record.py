"""The record of what makes a run the same run, kept beside its output so that only that run is resumed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

OUTPUT_FORMAT = 1  # to be raised when rows come to look different
FINGERPRINT_BLOCKS, FINGERPRINT_BLOCK_BYTES = 64, 16 * 2**10


@dataclass(frozen=True)
class Completion:
    """That a run is complete: what it counted, and the size of its output in bytes."""

    rows: int
    failed: int
    size: int


@dataclass(frozen=True)
class RunRecord:
    """All that decides what a run's rows look like, each as a text that can be shown."""

    input: str
    image_key: str
    text_key: str
    output_key: str
    image_root: str
    model: str
    max_pixels: str
    fast_decode: str
    fast_resize: str
    precision: str
    output_format: str
    version: str
    completion: Completion | None = None

    def differences(self, other: RunRecord) -> list[str]:
        """What is not the same in another run, one text each."""
        names = [field.name for field in fields(self) if field.name != "completion"]
        return [
            f"its {name.replace('_', ' ')} was {getattr(self, name)}, not {getattr(other, name)}"
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]

    def completed(self, completion: Completion) -> RunRecord:
        """The record of the run once it is complete."""
        return replace(self, completion=completion)


def read_record(path: Path) -> RunRecord | None:
    """The record in a file; `None` if there is none that can be read."""
    try:
        values = json.loads(path.read_text())
        completion = values.pop("completion")
        return RunRecord(**values, completion=Completion(**completion) if completion else None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_record(path: Path, record: RunRecord) -> None:
    """Puts the record into a file, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    with new.open("w") as file:
        file.write(json.dumps(asdict(record), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def file_fingerprint(path: Path) -> str:
    """A hash of a file's size and of 64 blocks spread over it: a megabyte is read, however large the file is."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for block in range(FINGERPRINT_BLOCKS):
            file.seek(block * max(0, size - FINGERPRINT_BLOCK_BYTES) // (FINGERPRINT_BLOCKS - 1))
            digest.update(file.read(FINGERPRINT_BLOCK_BYTES))
    return digest.hexdigest()[:16]
