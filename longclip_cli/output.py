"""Where scored lines go: standard output, or a file that is there only once it is complete.

Rows for `FILE` go to `FILE.partial`. Beside it lie a record of what makes the run the same run and, while
a run goes on, a lock. When all is written the partial file takes the name `FILE`; that comes last.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

from longclip_cli.errors import OutputError, UsageError
from longclip_cli.inputs import DECOMPRESSORS, STANDARD_STREAM, Input
from longclip_cli.run_record import Completion, RunRecord, read_record, write_record

log = logging.getLogger(__name__)


class Output:
    """An output to which rows are written at once: standard output, a FIFO, a device.

    Nothing is held back: what was written is with the reader, or in the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = "standard output" if path == STANDARD_STREAM else path
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
            self._file = FileIO(1, "w", closefd=False) if self.path == STANDARD_STREAM else FileIO(self.path, "w")
            os.set_blocking(self._file.fileno(), True)

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


class OutputFile(Output):
    """A file that is there only once it is complete, and can be resumed until then."""

    def __init__(self, path: str, partial: Path) -> None:
        super().__init__(path)
        self.partial = partial
        self.name = str(partial)
        self._target = Path(os.path.realpath(path))
        self._record_path = self._target.with_name(f"{self._target.name}.run.json")
        self._lock = FileLock(f"{self.partial}.lock")
        self._record: RunRecord | None = None
        self._kept_bytes = 0
        self._is_resumed = False

    def __enter__(self) -> OutputFile:
        with output_errors(self.name):
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise OutputError(f"another run is writing {self.path} (it holds {self._lock.lock_file})") from None
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__()
        with suppress(OSError):  # an empty file left behind does no harm
            Path(self._lock.lock_file).unlink()
        self._lock.release()

    @property
    def can_resume(self) -> bool:
        """Whether an earlier run has left rows here, complete or not."""
        return self._has_rows() or self._target.exists()

    def completion(self, record: RunRecord) -> Completion | None:
        """What the same run counted if its output is there and complete, so that there is nothing to do.

        Another input is a new run. Raises `OutputError` if the same input was scored in another way.
        """
        recorded = read_record(self._record_path)
        if self.partial.exists() or not recorded or not recorded.completion or recorded.input != record.input:
            return None
        if not self._target.exists() or self._target.stat().st_size != recorded.completion.size:
            return None
        if differences := recorded.differences(record):
            raise OutputError(
                f"{self.path} is the complete output of another run: {'; '.join(differences)}. "
                "Run it without --resume to score all rows afresh"
            )
        return recorded.completion

    def kept_lines(self, record: RunRecord) -> Iterator[bytes]:
        """The whole lines that an interrupted run of the same command has left; a torn last one is not kept.

        Raises `OutputError` if it was another run that left them.
        """
        if not self._has_rows():
            return
        recorded = read_record(self._record_path)
        if not recorded:
            raise OutputError(f"cannot resume {self.partial}: the record of its run, {self._record_path}, is missing")
        if differences := recorded.differences(record):
            raise OutputError(
                f"cannot resume {self.partial}, which another run has left: {'; '.join(differences)}. "
                "Run it as it was, or without --resume to score all rows afresh"
            )
        self._is_resumed = True
        with output_errors(self.name), self.partial.open("rb") as lines:
            for line in lines:
                # NULs are blocks that did not reach the disk before the power went.
                if not line.endswith(b"\n") or b"\0" in line:
                    return
                self._kept_bytes += len(line)
                yield line

    def _has_rows(self) -> bool:
        return self.partial.exists() and self.partial.stat().st_size > 0

    def begin(self, record: RunRecord | None) -> None:
        """Opens the partial file, behind the lines that are kept."""
        self._record = record
        with output_errors(self.name):
            if not self._is_resumed:
                if self._has_rows():
                    log.warning("scoring afresh: the rows of an interrupted run in %s are dropped", self.partial)
                # In this order, so that a record never stands beside rows of another run.
                self.partial.unlink(missing_ok=True)
                self._record_path.unlink(missing_ok=True)
                if record:
                    write_record(self._record_path, record)
            self._file = FileIO(os.open(self.partial, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666), "w")
            self._file.truncate(self._kept_bytes)
            self._file.seek(self._kept_bytes)

    def complete(self, rows: int, failed: int) -> None:
        """Gives the partial file its name, once it is safely on the disk."""
        assert self._file, "begin() comes first"
        with output_errors(self.name):
            os.fsync(self._file.fileno())
            if self._record:
                completion = Completion(rows, failed, size=self._file.tell())
                write_record(self._record_path, self._record.completed(completion))
            self.partial.replace(self._target)
            folder = os.open(self._target.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def discard(self) -> None:
        """Removes the partial file and its record."""
        with output_errors(self.name):
            self.partial.unlink(missing_ok=True)
            self._record_path.unlink(missing_ok=True)


def open_output(path: str) -> Output:
    """The output for a path: standard output for `-`, a FIFO or device as it is, else a file."""
    partial = partial_path(path)
    return OutputFile(path, partial) if partial else Output(path)


def partial_path(path: str) -> Path | None:
    """Where the rows of the output `path` are until the run is complete; `None` if they go there at once.

    It lies beside the file itself where `path` is a link.
    """
    if path == STANDARD_STREAM or (Path(path).exists() and not Path(path).is_file()):
        return None
    target = Path(os.path.realpath(path))
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
    elif Path(path).is_dir() or path.endswith(os.sep):
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
