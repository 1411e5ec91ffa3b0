"""Where scored lines go: standard output, or a file that is there only once it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from longclip_cli.errors import OutputError, UsageError
from longclip_cli.inputs import DECOMPRESSORS, STANDARD_STREAM


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

    If the `with` block raises, the partial file stays, and so does an older file at `path`.
    Raises `OutputError`.
    """
    is_stdout = path == STANDARD_STREAM
    name = "standard output" if is_stdout else str(partial_path(path))
    with output_errors(name):
        file = FileIO(1, "w", closefd=False) if is_stdout else FileIO(name, "w")
    with file:
        yield Output(name, file)
        if not is_stdout:
            with output_errors(name):
                os.fsync(file.fileno())
                Path(name).replace(path)


def partial_path(path: str) -> Path:
    """Where the rows of the output file `path` are until the run is complete."""
    return Path(f"{path}.partial")


def check_output(path: str, *, input: str) -> None:
    """Raises `UsageError` for an output that would destroy the input or is taken for compressed."""
    if path == STANDARD_STREAM:
        return
    suffix = Path(path).suffix.lower()
    if suffix in DECOMPRESSORS:
        raise UsageError(
            f"-o {path}: the output is not compressed; write to standard output and pipe it to a compressor"
        )
    if input != STANDARD_STREAM and Path(path).exists() and Path(input).exists() and Path(path).samefile(input):
        raise UsageError(f"-o {path} is the input itself; give the output another name")


@contextmanager
def output_errors(name: str) -> Iterator[None]:
    """Turns an operating system error into an `OutputError` that names the output."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror}") from error
