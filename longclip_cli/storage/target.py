"""An output to which rows are written at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Self

from longclip_cli.errors import OutputError
from longclip_cli.jobs.run_record import Completion, RunRecord
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.streams import STDOUT, descriptor_of


class Output:
    """An output to which rows are written at once: standard output, another open descriptor, a FIFO, a device.

    Nothing is held back: what was written is with the reader, or in the file. A file behind it is appended to.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard output" if path == STANDARD_STREAM else path
        self.descriptor = STDOUT if path == STANDARD_STREAM else descriptor_of(path)
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file:
            self._file.close()

    @property
    def can_resume(self) -> bool:
        """Whether an earlier run has left rows here."""
        return False

    def completion(self, record: RunRecord) -> Completion | None:  # noqa: ARG002
        """Return nothing: what was written here cannot be read again."""
        return None

    def kept_lines(self, record: RunRecord) -> Iterator[bytes]:  # noqa: ARG002
        """Return no lines: what was written here cannot be read again."""
        return iter(())

    def begin(self, record: RunRecord | None) -> None:  # noqa: ARG002
        """Opens the output, now that the run can start; without rows it has no record."""
        with output_errors(self.name):
            self._file = FileIO(self._open(), "w")
            os.set_blocking(self._file.fileno(), True)

    def _open(self) -> int:
        if self.descriptor is not None:
            return os.dup(self.descriptor)  # and its position; the path would be opened at its start
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, content: bytes) -> None:
        """Writes all of it. Raises `OutputError`, or `BrokenPipeError` if the reader has gone."""
        assert self._file, "begin() comes first"
        rest = memoryview(content)
        with output_errors(self.name):
            while rest:
                rest = rest[self._file.write(rest) :]

    def complete(self, rows: int, failed: int) -> None:
        """Makes the output final, now that all rows are written."""

    def discard(self) -> None:
        """Leaves nothing behind to be resumed."""


@contextmanager
def output_errors(name: str) -> Iterator[None]:
    """Turns an operating system error into an `OutputError` that names the output."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {name}: {error.strerror}") from error
