"""The files beside an output, and whether all files that a run writes are different ones, and its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from longclip_cli.errors import OutputError, UsageError
from longclip_cli.jobs.run_record import is_record
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.files import file_keys, is_regular
from longclip_cli.storage.source import DECOMPRESSORS, Input
from longclip_cli.storage.streams import STDOUT, descriptor_of, is_inherited, named_descriptor
from longclip_cli.storage.target import output_errors


@dataclass(frozen=True)
class SideFiles:
    """Paths of the files beside the output `target`, which is no link."""

    target: Path

    @property
    def partial(self) -> Path:
        """Where rows are until the run is complete."""
        return self._beside(".partial")

    @property
    def lock(self) -> Path:
        """Empty; there while a run goes on."""
        return self._beside(".partial.lock")

    @property
    def record(self) -> Path:
        """What makes the run the same run."""
        return self._beside(".run.json")

    def _beside(self, suffix: str) -> Path:
        return self.target.with_name(self.target.name + suffix)

    def __iter__(self) -> Iterator[Path]:
        return iter((self.partial, self.lock, self.record))

    def check(self, *paths: Path) -> None:
        """Raise `OutputError` if one of these paths holds something that no run has written."""
        for path in paths:
            with output_errors(str(path)):
                if os.path.lexists(path) and (problem := self._problem(path)):
                    raise OutputError(
                        f"cannot write {path}: {problem}. Move what is there away, or give another output with -o"
                    )

    def _problem(self, path: Path) -> str | None:
        if not is_regular(path):
            return "it is not a regular file"
        if path == self.record:
            return None if is_record(path) else "it is not the record of a run"
        if path.stat().st_size == 0:
            return None
        if path == self.lock:
            return "it is not the lock of a run, which would be empty"
        return None if is_record(self.record) else f"the record of its run, {self.record}, is missing"


def side_files(path: str) -> SideFiles | None:
    """Return the files beside the output `path`; `None` if rows go there at once: a descriptor, a FIFO, a device.

    They lie beside the file itself where `path` is a link.
    """
    if path == STANDARD_STREAM or named_descriptor(path) or (Path(path).exists() and not Path(path).is_file()):
        return None
    return SideFiles(Path(os.path.realpath(path)))


def check_output(path: str, summary: Path | None, source: Input) -> None:
    """Raise an error, before anything is written, if a file cannot be written or is another file of the run as well.

    Raises `UsageError` or `OutputError`.
    """
    if Path(path).suffix.lower() in DECOMPRESSORS:
        raise UsageError(
            f"-o {path}: the output is not compressed; write to standard output and pipe it to a compressor"
        )
    if path != STANDARD_STREAM and (Path(path).is_dir() or path.endswith(os.sep)):
        raise OutputError(f"cannot write {path}: it is a folder")
    if summary and summary.is_dir():
        raise OutputError(f"cannot write the summary {summary}: it is a folder")
    own_name = "standard output" if path == STANDARD_STREAM else path
    outputs = {own_name: destination(path)} | {str(file): file for file in side_files(path) or ()}
    targets = [("-o", *output) for output in outputs.items()]
    if summary:
        targets.append(("--summary", str(summary), destination(summary)))
    for option, name, target in targets:
        if isinstance(target, Path) and not target.absolute().parent.is_dir():
            raise OutputError(f"cannot write {name}: no such folder")
        if isinstance(target, int) and not is_inherited(target):
            raise OutputError(f"cannot write {name}: it is closed; give a file with {option}")
        if file_keys(source.file.fileno()) & file_keys(target):
            if target == STDOUT:
                raise UsageError("standard output is the input itself; write to another file")
            raise UsageError(f"{option} would overwrite {name}, which is the input itself")
        if option == "-o" and summary and file_keys(destination(summary)) & file_keys(target):
            what = "the output" if name == own_name else "the output's file"
            raise UsageError(f"--summary would overwrite {what} {name}; give it another file")


def destination(path: str | Path) -> Path | int:
    """Return the open descriptor that an output's path stands for, or else the path."""
    descriptor = STDOUT if path == STANDARD_STREAM else descriptor_of(path)
    return Path(path) if descriptor is None else descriptor
