"""Outputs in files, which exist only once they are complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Self

from filelock import FileLock, Timeout

from longclip_cli.errors import OutputError
from longclip_cli.storage.compression import COMPRESSORS, DECOMPRESSORS, check_compressor, compression_of
from longclip_cli.storage.files import output_errors, whole_file
from longclip_cli.storage.side_files import SideFiles, side_files
from longclip_cli.storage.target import Output, WriteFile


class OutputFile(Output):
    """A file whose content is in `FILE.partial` until it is complete. One process at a time can write it."""

    def __init__(self, path: str, files: SideFiles) -> None:
        super().__init__(path)
        self.files: SideFiles = files
        self.name = str(files.partial)
        # The thread that reads locks it, and the one that writes unlocks it.
        self._lock = FileLock(files.lock, thread_local=False)
        self._kept: int | None = None  # bytes of the lines that `begin` leaves; `None` if it starts a new file
        self._finished = files.partial
        self._compression = compression_of(path)

    def __enter__(self) -> Self:
        """Lock the output.

        Raise `OutputError` if another process has locked it, a side file is not a run's, or the package that
        compresses it is not installed.
        """
        check_compressor(self._compression)
        self.files.make_folders()
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

    def keep_nothing(self) -> None:
        """Let `begin` start a new file."""
        self._kept = None

    def drop_line(self, line: bytes) -> None:
        """Leave the last line that `kept_lines` has given out of what `begin` keeps."""
        assert self._kept is not None, "kept_lines() comes first"
        self._kept -= len(line)

    def reopen(self) -> None:
        """Make the complete output partial again, in a copy: it stays in its place until the new one is complete."""
        with output_errors(self.name), whole_file(self.files.partial) as new, self.files.target.open("rb") as file:
            content = DECOMPRESSORS[self._compression](file) if self._compression else file
            with new.open("wb") as copy:
                shutil.copyfileobj(content, copy)
                copy.flush()
                os.fsync(copy.fileno())

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

    def finished_file(self, write: WriteFile | None) -> Path:
        """Return the file that `complete` makes the output: the partial one or, if it is none yet, one made from it.

        `write` gives its content; without it, that is the partial file's.
        """
        if write or self._compression:
            try:
                with output_errors(self.name), self._open_new() as file:
                    self._write_new(file, write or self._copy_partial)
            except BaseException:
                with suppress(OSError):  # on a full disk its space is needed
                    self.files.new.unlink()
                raise
            self._finished = self.files.new
        return self._finished

    def _write_new(self, file: BinaryIO, write: WriteFile) -> None:
        if self._compression:
            with closing(COMPRESSORS[self._compression](file)) as compressed:
                write(compressed)
        else:
            write(file)
        file.flush()
        os.fsync(file.fileno())

    def _open_new(self) -> BinaryIO:
        """Open a new file in place of one that a killed run has left, which may share its content with another."""
        self.files.new.unlink(missing_ok=True)
        return self.files.new.open("xb")

    def _copy_partial(self, file: BinaryIO) -> None:
        with self.files.partial.open("rb") as partial:
            shutil.copyfileobj(partial, file)

    def complete(self) -> None:
        """Rename the finished file to its final name."""
        with output_errors(self.name):
            self._finished.replace(self.files.target)
            self.files.partial.unlink(missing_ok=True)
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
            self.files.new.unlink(missing_ok=True)


def open_output(path: str, place: Path | None = None) -> Output:
    """Return the output for a path: an open descriptor, a FIFO or a device is written directly, all else is a file.

    `place` is as in `SideFiles`.
    """
    files = side_files(path, place)
    return OutputFile(path, files) if files else Output(path)
