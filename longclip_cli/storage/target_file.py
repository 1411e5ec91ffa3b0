"""An output file that is there only once it is complete.

Rows for `FILE` go to `FILE.partial`. Beside it lie a record of what makes the run the same run and, while
a run goes on, a lock. When all is written the partial file takes the name `FILE`; that comes last.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from io import FileIO
from time import monotonic
from typing import Any, Self

from filelock import FileLock, Timeout

from longclip_cli.errors import OutputError
from longclip_cli.jobs.run_record import Completion, Prefix, RunRecord, read_record, write_record
from longclip_cli.reporting.messages import now
from longclip_cli.storage.side_files import SideFiles, side_files
from longclip_cli.storage.target import Output, output_errors

SECONDS_BETWEEN_RECORDS = 10  # after a kill, rows of so many seconds are kept without being compared with their hash
log = logging.getLogger(__name__)


class OutputFile(Output):
    """A file that is there only once it is complete, and can be resumed until then."""

    def __init__(self, path: str, side_files: SideFiles) -> None:
        super().__init__(path)
        self.partial = side_files.partial
        self.name = str(self.partial)
        self._side_files = side_files
        self._target = side_files.target
        self._record_path = side_files.record
        self._lock = FileLock(side_files.lock)
        self._record: RunRecord | None = None
        self._size = 0  # of the whole rows that are written
        self._hash = hashlib.blake2b(digest_size=16)
        self._next_record = 0.0
        self._is_resumed = False

    def __enter__(self) -> Self:
        """Raises `OutputError` if another run is writing this output, or a side file is somebody else's."""
        files = self._side_files
        files.check(files.lock)
        with output_errors(self.name):
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise OutputError(f"another run is writing {self.path} (it holds {files.lock})") from None
        try:
            files.check(files.record, files.partial)
        except OutputError:
            self._unlock()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__()
        with suppress(OSError):  # the first error is the one to report, and the rows are there without their hash
            self._write_record()
        self._unlock()

    def _unlock(self) -> None:
        with suppress(OSError):  # an empty file left behind does no harm
            self._side_files.lock.unlink()
        self._lock.release()

    @property
    def can_resume(self) -> bool:
        """Whether an earlier run has left rows here, complete or not."""
        return self._has_rows() or self._target.exists()

    def completion(self, record: RunRecord) -> Completion | None:
        """What the same run counted if its output is there and complete, so that there is nothing to do.

        Another input is a new run. Raises `OutputError` if the same input was scored in another way.
        """
        if self.partial.exists() or not self._target.exists():
            return None
        recorded = read_record(self._record_path)
        if not recorded:
            log.warning("%s exists without its run record %s; scoring all rows", self.path, self._record_path)
            return None
        if not recorded.completion or recorded.input != record.input:
            return None
        size = self._target.stat().st_size
        if size != recorded.completion.size:
            log.warning(
                "%s has %d bytes, not %d as written; scoring all rows", self.path, size, recorded.completion.size
            )
            return None
        if differences := recorded.differences(record):
            raise OutputError(
                f"{self.path} is the complete output of another run: {'; '.join(differences)}. "
                "Run it without --resume to score all rows"
            )
        return recorded.completion

    def kept_lines(self, record: RunRecord) -> Iterator[bytes]:
        """The whole lines that an interrupted run of the same command has left; a torn last one is not kept.

        Raises `OutputError` if it was another run that left them, or if they have changed since.
        """
        if not self._has_rows():
            return
        recorded = read_record(self._record_path)
        if not recorded:
            raise OutputError(
                f"cannot resume {self.partial}: the record of its run, {self._record_path}, is unreadable"
            )
        if differences := recorded.differences(record):
            raise OutputError(
                f"cannot resume {self.partial}, which another run has left: {'; '.join(differences)}. "
                "Run it as it was, or without --resume to score all rows"
            )
        self._is_resumed = True
        with output_errors(self.name), self.partial.open("rb") as lines:
            for line in lines:
                # NULs are blocks that did not reach the disk before the power went.
                if not line.endswith(b"\n") or b"\0" in line:
                    return
                self._count(line)
                self._compare(recorded.prefix, len(line))
                yield line

    def _compare(self, prefix: Prefix | None, added: int) -> None:
        """Raise `OutputError` if the rows kept so far, with the last of `added` bytes, are not those of the prefix.

        A file that is shorter than the prefix lost its end with the power, and what is left of it is kept.
        """
        if prefix and self._size - added < prefix.size <= self._size and self._prefix() != prefix:
            raise OutputError(
                f"cannot resume {self.partial}: its first {prefix.size} bytes have changed since they were written. "
                "Run it without --resume to score all rows"
            )

    def _count(self, content: bytes) -> None:
        self._size += len(content)
        self._hash.update(content)

    def _prefix(self) -> Prefix:
        return Prefix(self._size, self._hash.hexdigest())

    def _has_rows(self) -> bool:
        return self.partial.exists() and self.partial.stat().st_size > 0

    def begin(self, record: RunRecord | None) -> None:
        """Opens the partial file, behind the lines that are kept."""
        with output_errors(self.name):
            if not self._is_resumed:
                if self._has_rows():
                    log.warning("scoring all rows: the rows of an interrupted run in %s are dropped", self.partial)
                # In this order, so that a record never stands beside rows of another run.
                self.partial.unlink(missing_ok=True)
                self._record_path.unlink(missing_ok=True)
                if record:
                    write_record(self._record_path, record)
            how = os.O_NOFOLLOW if self._is_resumed else os.O_CREAT | os.O_EXCL
            self._file = FileIO(os.open(self.partial, os.O_WRONLY | os.O_CLOEXEC | how, 0o666), "w")
            self._file.truncate(self._size)
            self._file.seek(self._size)
            self._record = record
            if self._is_resumed:  # a prefix in which rows were lost would not be that of the rows to come
                self._write_record()
        self._next_record = monotonic() + SECONDS_BETWEEN_RECORDS

    def write(self, content: bytes) -> None:
        """Writes whole rows, and from time to time their hash into the record."""
        super().write(content)
        self._count(content)
        time = monotonic()
        if time >= self._next_record:
            with output_errors(self.name):
                self._write_record()
            self._next_record = time + SECONDS_BETWEEN_RECORDS

    def _write_record(self, **changes: Any) -> None:
        if self._record:
            write_record(self._record_path, replace(self._record, prefix=self._prefix(), **changes))

    def complete(self, rows: int, failed: int) -> None:
        """Gives the partial file its name, once it is safely on the disk."""
        assert self._file, "begin() comes first"
        with output_errors(self.name):
            os.fsync(self._file.fileno())
            self._write_record(end=now(), completion=Completion(rows, failed, self._size))
            self._record = None  # it is final
            self.partial.replace(self._target)
            folder = os.open(self._target.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def discard(self) -> None:
        """Removes the partial file and its record."""
        self._record = None
        with output_errors(self.name):
            self.partial.unlink(missing_ok=True)
            self._record_path.unlink(missing_ok=True)


def open_output(path: str) -> Output:
    """The output for a path: an open descriptor, a FIFO or a device as it is, else a file."""
    beside = side_files(path)
    return OutputFile(path, beside) if beside else Output(path)
