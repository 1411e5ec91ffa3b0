"""The record of what makes a run the same run, kept beside its output so that only that run is resumed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from longclip_cli.storage.files import is_regular, write_whole

OUTPUT_FORMAT = 1  # to be raised when rows come to look different
MAX_RECORD_BYTES = 2**20  # what is longer is no record, and is not read to its end


@dataclass(frozen=True)
class Completion:
    """That a run is complete: what it counted, and the size of its output in bytes."""

    rows: int
    failed: int
    size: int


@dataclass(frozen=True)
class Prefix:
    """The first `size` bytes of the partial output, and their hash (BLAKE2b, in hexadecimal)."""

    size: int
    digest: str


@dataclass(frozen=True)
class RunRecord:
    """All that decides what a run's rows look like, each as a text that can be shown.

    What is not compared informs people, or says how far the run is. `start` and `end` are ISO 8601 times. The fields
    of the model are `None` if no row needed it: any model gives the same rows then.
    """

    input: str
    image_key: str
    text_key: str
    output_key: str
    image_root: str
    max_pixels: str
    fast_decode: str
    fast_resize: str
    output_format: str
    version: str
    model: str = field(compare=False)  # as the command names it
    start: str = field(compare=False)
    model_hash: str | None = None
    precision: str | None = None
    model_file: str | None = field(default=None, compare=False)
    device: str | None = field(default=None, compare=False)
    end: str | None = field(default=None, compare=False)
    prefix: Prefix | None = field(default=None, compare=False)
    completion: Completion | None = field(default=None, compare=False)

    def differences(self, other: RunRecord) -> list[str]:
        """Return what is not the same in another run, one text each."""
        names = [field.name for field in fields(self) if field.compare and getattr(self, field.name) is not None]
        return [self._difference(other, name) for name in names if getattr(self, name) != getattr(other, name)]

    def _difference(self, other: RunRecord, name: str) -> str:
        if name == "model_hash" and self.model != other.model:
            name = "model"
        return f"its {name.replace('_', ' ')} was {getattr(self, name)}, not {getattr(other, name)}"


def read_record(path: Path) -> RunRecord | None:
    """Return the record in a file; `None` if there is none that can be read."""
    values = read_object(path)
    try:
        for name, kind in (("prefix", Prefix), ("completion", Completion)):
            values[name] = kind(**values[name]) if values[name] else None
        return RunRecord(**values)
    except (TypeError, KeyError):
        return None


def is_record(path: Path) -> bool:
    """Return whether a file is the record of a run of any version, and no link."""
    return is_regular(path) and {"input", "output_format", "version"} <= read_object(path).keys()


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is none that can be read."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def write_record(path: Path, record: RunRecord) -> None:
    """Put the record into a file, whole or not at all. Raises `OSError`."""
    write_whole(path, json.dumps(asdict(record), indent=2).encode() + b"\n")
