"""Outputs as bytes: streams that are written directly, and files that exist only once they are complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from typing import Self

from filelock import FileLock, Timeout

from longclip_cli.errors import OutputError
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.files import output_errors
from longclip_cli.storage.side_files import SideFiles, side_files
from longclip_cli.storage.streams import STDOUT, descriptor_of


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

    def complete(self) -> None:
        """Make the output final; what a stream has written is final already."""

    def discard(self) -> None:
        """Remove what was written; a stream cannot take it back."""


class OutputFile(Output):
    """A file whose content is in `FILE.partial` until it is complete. One process at a time can write it."""

    def __init__(self, path: str, files: SideFiles) -> None:
        super().__init__(path)
        self.files: SideFiles = files
        self.name = str(files.partial)
        self._lock = FileLock(files.lock)
        self._kept: int | None = None  # bytes of the lines that `begin` leaves; `None` if it starts a new file

    def __enter__(self) -> Self:
        """Lock the output. Raise `OutputError` if another process has locked it, or a side file is not a run's."""
        self.files.check_lock()
        with output_errors(self.name):
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise OutputError(f"another run is writing {self.path} (it holds {self.files.lock})") from None
        try:
            self.files.check()
        except OutputError:
            self._unlock()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__()
        self._unlock()

    def _unlock(self) -> None:
        with suppress(OSError):  # an empty file that is left does no harm
            self.files.lock.unlink()
        self._lock.release()

    def kept_lines(self) -> Iterator[bytes]:
        """Yield the whole lines of the partial file, which `begin` then leaves there.

        A torn last line ends them, and so does one with NULs: blocks that did not reach the disk before a power cut.
        """
        self._kept = 0
        with output_errors(self.name), self.files.partial.open("rb") as lines:
            for line in lines:
                if not line.endswith(b"\n") or b"\0" in line:
                    return
                self._kept += len(line)
                yield line

    def begin(self) -> None:
        """Open the partial file after the lines that are kept. If none are, replace it."""
        with output_errors(self.name):
            if self._kept is None:
                self.discard()
            how = os.O_CREAT | os.O_EXCL if self._kept is None else os.O_NOFOLLOW
            self._file = FileIO(os.open(self.files.partial, os.O_WRONLY | os.O_CLOEXEC | how, 0o666), "w")
            self._file.truncate(self._kept or 0)
            self._file.seek(self._kept or 0)

    def flush(self) -> None:
        """Put what was written onto the disk."""
        assert self._file, "begin() comes first"
        with output_errors(self.name):
            os.fsync(self._file.fileno())

    def complete(self) -> None:
        """Rename the partial file to its final name."""
        with output_errors(self.name):
            self.files.partial.replace(self.files.target)
        with suppress(OSError):  # the output is complete, and some file systems refuse this for a folder
            folder = os.open(self.files.target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def discard(self) -> None:
        """Remove the partial file."""
        with output_errors(self.name):
            self.files.partial.unlink(missing_ok=True)


def open_output(path: str) -> Output:
    """Return the output for a path: an open descriptor, a FIFO or a device is written directly, all else is a file."""
    files = side_files(path)
    return OutputFile(path, files) if files else Output(path)
