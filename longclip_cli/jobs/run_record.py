"""The run record: what a run's rows depend on, so that `--resume` continues the same run only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from longclip_cli.options import ScoringOptions
from longclip_cli.reporting.summary import ModelInUse
from longclip_cli.storage.files import is_regular, json_fields, write_whole
from longclip_cli.storage.source import Input
from longclip_cli.version import __version__

OUTPUT_FORMAT = 2  # raise it when rows come to look different
MAX_RECORD_BYTES = 2**20  # a longer file is not a record, and is not read to its end
KEYS_OF_ALL_VERSIONS = {"input", "output_format", "version"}
KEYS_OF_THE_MODEL = {"model_hash", "precision"}


@dataclass(frozen=True)
class Completion:
    """Counts of a complete run, and the size of its output in bytes and time of change in ns, if it is known."""

    rows: int
    failed: int
    size: int
    time: int | None = None


@dataclass(frozen=True)
class Prefix:
    """The first `size` bytes of the partial output, and their hash (BLAKE2b, in hexadecimal)."""

    size: int
    digest: str


class PrefixHash:
    """The prefix that grows while rows are kept or written."""

    def __init__(self) -> None:
        self.size = 0
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, content: bytes) -> None:
        """Take `content` into the prefix."""
        self.size += len(content)
        self._hash.update(content)

    def copy(self) -> PrefixHash:
        """Return the prefix so far, which does not grow with this one."""
        other = PrefixHash()
        other.size, other._hash = self.size, self._hash.copy()
        return other

    @property
    def prefix(self) -> Prefix:
        """The prefix so far."""
        return Prefix(self.size, self._hash.hexdigest())


@dataclass(frozen=True)
class RunRecord:
    """What a run's rows depend on, `compared` as texts by name, and what it tells people.

    `start` and `end` are ISO 8601 times. If no row needed the model, its hash and precision are not there: any model
    gives the same rows then.
    """

    compared: Mapping[str, str]
    start: str
    model: str  # as the command names it
    input_file: str | None = None
    input_size: int | None = None  # in bytes
    model_file: str | None = None
    device: str | None = None
    end: str | None = None
    prefix: Prefix | None = None
    completion: Completion | None = None
    scores: Mapping[str, int] | None = None  # counts of scores by bin
    mismatched: Mapping[str, int] | None = None  # counts of mismatched pairs by bin of their score

    def has_grown(self, other: RunRecord) -> bool:
        """Return whether another run has the same input file, which has become larger since this one."""
        is_same = self.input_file is not None and self.input_file == other.input_file
        return is_same and self.input_size is not None and (other.input_size or 0) > self.input_size

    def differences(self, other: RunRecord, *, ignored: Container[str] = ()) -> list[str]:
        """Return what differs in another run, one text each."""
        added = other.compared.keys() - self.compared.keys() - KEYS_OF_THE_MODEL
        names = [
            name for name in self.compared if name not in ignored and self.compared[name] != other.compared.get(name)
        ]
        return [self._difference(other, name) for name in [*names, *sorted(added)]]

    def _difference(self, other: RunRecord, name: str) -> str:
        if name == "model_hash" and self.model != other.model:
            return f"its model was {self.model}, not {other.model}"
        was, now = (record.compared.get(name, "unknown") for record in (self, other))
        return f"its {name.replace('_', ' ')} was {was}, not {now}"


def describe_run(scoring: ScoringOptions, source: Input, start: str, model: ModelInUse | None) -> RunRecord:
    """Return the record of a run on the input `source` that began at `start`.

    `model` is `None` if no row needs it.
    """
    resolved = {
        "model": None,  # its hash is compared
        "revision": None,  # the hash covers it
        "precision": model and model.precision,
        "image_root": str(scoring.image_root.resolve()),
    }
    values = {item.name: getattr(scoring, item.name) for item in fields(scoring)} | resolved
    compared = {
        "input": source.identity,
        **{name: as_text(value) for name, value in values.items() if name not in resolved or value is not None},
        **({"model_hash": model.fingerprint} if model else {}),
        "output_format": str(OUTPUT_FORMAT),
        "version": __version__,
    }
    record = RunRecord(compared, start, scoring.model, source.path, source.size)
    return replace(record, model_file=model.file, device=model.device) if model else record


def as_text(value: object) -> str:
    """Return the value of an option for people."""
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    words = {None: "none", False: "off", True: "on"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def read_record(path: Path) -> RunRecord | None:
    """Return the record in a file; `None` if there is none that can be read."""
    values = read_object(path)
    about = {item.name: values.pop(item.name, None) for item in fields(RunRecord) if item.name != "compared"}
    if not values.keys() >= KEYS_OF_ALL_VERSIONS or not all(isinstance(value, str) for value in values.values()):
        return None
    try:
        for name, kind in (("prefix", Prefix), ("completion", Completion)):
            about[name] = kind(**about[name]) if about[name] else None
        for name in ("scores", "mismatched"):
            if about[name] is not None:
                about[name] = {str(int(place)): int(count) for place, count in about[name].items()}
    except (AttributeError, TypeError, ValueError):
        return None
    return RunRecord(compared=values, **about)


def is_record(path: Path) -> bool:
    """Return whether a file is the record of a run of any version, and not a link."""
    return is_regular(path) and read_object(path).keys() >= KEYS_OF_ALL_VERSIONS


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; empty if there is none that can be read."""
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def write_record(path: Path, record: RunRecord) -> None:
    """Write a record to a file, whole or not at all. Raise `OSError`."""
    about = asdict(record)
    compared = about.pop("compared")
    write_whole(path, json_fields(compared | about))
