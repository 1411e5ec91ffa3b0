"""Where scored lines go: standard output, or a file that is there only once it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from longclip_cli.errors import OutputError, UsageError
from longclip_cli.inputs import DECOMPRESSORS, STANDARD_STREAM, Input


class Output:
    """An opened output. Nothing is held back: what was written is with the reader, or in the file."""

    def __init__(self, name: str, file: FileIO) -> None:
        self.name = name
        self._file = file

    def write(self, content: bytes) -> None:
        """Writes all of it. Raises `OutputError`, or `BrokenPipeError` if the reader has gone."""
        rest = memoryview(content)
        with output_errors(self.name):
            while rest:
                rest = rest[self._file.write(rest) :]


@contextmanager
def open_output(path: str) -> Iterator[Output]:
    """Opens standard output for `-`, else a partial file that takes the name `path` when all is written.

    If the `with` block raises, the partial file stays, and so does an older file at `path`. A device or a
    FIFO is written to as it is. Raises `OutputError`.
    """
    partial = partial_path(path)
    is_stdout = path == STANDARD_STREAM
    name = "standard output" if is_stdout else str(partial or path)
    with output_errors(name):
        file = FileIO(1, "w", closefd=False) if is_stdout else FileIO(name, "w")
        os.set_blocking(file.fileno(), True)
    with file:
        yield Output(name, file)
        if partial:
            with output_errors(name):
                os.fsync(file.fileno())
                partial.replace(os.path.realpath(path))


def partial_path(path: str) -> Path | None:
    """Where the rows of the output `path` are until the run is complete; `None` if they go there at once.

    It lies beside the file itself where `path` is a link.
    """
    target = Path(os.path.realpath(path))
    if path == STANDARD_STREAM or (target.exists() and not target.is_file()):
        return None
    return target.with_name(f"{target.name}.partial")


def check_output(path: str, summary: Path | None, source: Input) -> None:
    """Raises an error, before anything is written, if an output would destroy the input or can't be written.

    Raises `UsageError` or `OutputError`.
    """
    if Path(path).suffix.lower() in DECOMPRESSORS:
        raise UsageError(
            f"-o {path}: the output is not compressed; write to standard output and pipe it to a compressor"
        )
    if path == STANDARD_STREAM:
        if source.is_same_file(1):
            raise UsageError("standard output is the input itself; write to another file")
    elif Path(path).is_dir():
        raise OutputError(f"cannot write {path}: it is a folder")
    for option, target in (("-o", path), ("-o", partial_path(path)), ("--summary", summary)):
        if target is None or target == STANDARD_STREAM:
            continue
        if not Path(target).absolute().parent.is_dir():
            raise OutputError(f"cannot write {target}: no such folder")
        if Path(target).exists() and source.is_same_file(target):
            raise UsageError(f"{option} would overwrite {target}, which is the input itself")
    if summary and path != STANDARD_STREAM and summary.absolute() == Path(path).absolute():
        raise UsageError(f"--summary would overwrite the output {path}")


@contextmanager
def output_errors(name: str) -> Iterator[None]:
    """Turns an operating system error into an `OutputError` that names the output."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror}") from error
