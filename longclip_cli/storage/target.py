"""Outputs that are written directly: streams, and what an output in a file has in common with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Self

from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.files import output_errors
from longclip_cli.storage.side_files import SideFiles
from longclip_cli.storage.streams import STDOUT, descriptor_of

WriteFile = Callable[[BinaryIO], None]  # writes the content of a finished file


class Output:
    """An output that is written directly: standard output, another open descriptor, a FIFO, a device.

    Nothing is buffered here. A file behind a descriptor is appended to.
    """

    files: SideFiles | None = None  # of an output that can be resumed

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard output" if path == STANDARD_STREAM else path
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file:
            self._file.close()

    def kept_lines(self) -> Iterator[bytes]:
        """Yield nothing: what a stream has written cannot be read again."""
        return iter(())

    def keep_nothing(self) -> None:
        """Do nothing: a stream keeps nothing."""

    def drop_line(self, line: bytes) -> None:
        """Do nothing: a stream has no lines to drop."""

    def reopen(self) -> None:
        """Do nothing: a stream is never complete."""

    def begin(self) -> None:
        """Open the output."""
        with output_errors(self.name):
            self._file = FileIO(self._open(), "w")
            os.set_blocking(self._file.fileno(), True)

    def _open(self) -> int:
        descriptor = STDOUT if self.path == STANDARD_STREAM else descriptor_of(self.path)
        if descriptor is not None:
            return os.dup(descriptor)  # and its position; the path would be opened at its start
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, content: bytes) -> None:
        """Write all of it. Raise `OutputError`, or `ReaderGoneError` if the reader has closed the output."""
        assert self._file, "begin() comes first"
        rest = memoryview(content)
        with output_errors(self.name):
            while rest:
                rest = rest[self._file.write(rest) :]

    def flush(self) -> None:
        """Put what was written onto the disk; a stream has none."""

    def finished_file(self, write: WriteFile | None) -> Path | None:
        """Return the file that becomes the output; a stream has none."""

    def complete(self) -> None:
        """Make the output final; what a stream has written is final already."""

    def discard(self) -> None:
        """Remove what was written; a stream cannot take it back."""
