"""The output of a run and, beside an output file, its run record."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, Self

from longclip_cli.errors import DifferentRunError, OutputError
from longclip_cli.jobs.run_record import Completion, Prefix, PrefixHash, RunRecord, is_record, read_record, write_record
from longclip_cli.reporting.counts import Counts
from longclip_cli.stopwatch import now
from longclip_cli.storage.files import output_errors
from longclip_cli.storage.side_files import refused
from longclip_cli.storage.target import Output, WriteFile

SECONDS_BETWEEN_RECORDS = 10  # rows of so many seconds before a kill are kept without comparing their hash
log = logging.getLogger(__name__)


class RecordedOutput:
    """An output and its run record, which says how far the run is. A stream has no record.

    With `follows_input`, an output whose input has grown is continued. That needs rows in it that can be compared.
    """

    def __init__(self, output: Output, *, follows_input: bool = False) -> None:
        self._output = output
        self._follows_input = follows_input
        self.counts = Counts()  # of the rows here; OpenPart, which counts them, sets it
        self.mismatched_before: Counter[int] = Counter()  # counts of mismatched pairs of the run that is continued
        self.has_grown = False  # the input, since the rows here were written
        self._files = output.files
        self._record: RunRecord | None = None  # while rows are written
        self._written = PrefixHash()
        self._next_record = 0.0
        self._is_resumed = False
        self._is_dropped = False  # the line given last
        self.has_begun = False

    def __enter__(self) -> Self:
        """Open the output. Raise `OutputError` if another run is writing it, or a side file is not a run's."""
        with ExitStack() as stack:
            stack.enter_context(self._output)
            self._check_side_files()
            stack.pop_all()
        return self

    def _check_side_files(self) -> None:
        if not (files := self._files):
            return
        if files.record.exists() and not is_record(files.record):
            raise refused(files.record, "it is not the record of a run")
        for path in (files.partial, files.new):
            if has_content(path) and not files.record.exists():
                raise refused(path, f"the record of its run, {files.record}, is missing")

    def __exit__(self, *exception: object) -> None:
        try:
            with suppress(OutputError):  # the first error is reported, and without its hash a row is kept, too
                self._write_record()
        finally:
            self._output.__exit__(*exception)

    @property
    def is_file(self) -> bool:
        """Whether the output is a file, which belongs to one input; a stream may be shared by several."""
        return self._files is not None

    @property
    def can_resume(self) -> bool:
        """Whether an earlier run has left rows here, complete or not."""
        return self._has_rows() or (self._files is not None and self._files.target.exists())

    def _has_rows(self) -> bool:
        return self._files is not None and has_content(self._files.partial)

    @property
    def partial(self) -> Path | None:
        """The file with the rows that this run has left and `--resume` continues; `None` if there is none."""
        partial = self._files.partial if self._files and self.has_begun else None
        return partial if partial and partial.exists() else None

    def completion(self, record: RunRecord) -> Completion | None:
        """Return the counts of the same run if its output is complete, so that there is nothing to do.

        With a different input it is a new run. Raise `OutputError` if the same input was scored in another way.
        """
        if not (files := self._files) or files.partial.exists() or not files.target.exists():
            return None
        recorded = read_record(files.record)
        if not recorded:
            log.warning("%s exists without its run record %s; scoring all rows", self._output.path, files.record)
            return None
        if not self._is_as_written(recorded.completion):
            return None
        was, now = recorded.compared["input"], record.compared["input"]
        if was == now and (differences := recorded.differences(record)):
            raise DifferentRunError(
                f"{self._output.path} is the complete output of a different run: {'; '.join(differences)}. "
                "To score all rows, remove --resume"
            )
        if was == now and recorded.completion:
            rows, failed = recorded.completion.rows, recorded.completion.failed
            self.counts = Counts.of_earlier(rows, failed, by_bin(recorded.scores), by_bin(recorded.mismatched))
            return recorded.completion
        if self._follows_input and recorded.has_grown(record) and not recorded.differences(record, ignored=["input"]):
            self._reopen(recorded)
        else:
            log.warning("%s was scored from %s, not %s; scoring all rows", self._output.path, was, now)
        return None

    def _is_as_written(self, completion: Completion | None) -> bool:
        """Return whether the output is complete and has not changed since."""
        if not self._files or not completion:
            return False
        status = self._files.target.stat()
        if status.st_size != completion.size:
            problem = f"has {status.st_size} bytes, not {completion.size} as written"
        elif completion.time not in (None, status.st_mtime_ns):
            problem = "has changed since it was written"
        else:
            return True
        log.warning("%s %s; scoring all rows", self._output.path, problem)
        return False

    def _reopen(self, recorded: RunRecord) -> None:
        """Turn the complete output into the partial one of an interrupted run."""
        assert self._files, "what is complete is a file"
        self._output.reopen()
        with output_errors(self._output.name):
            write_record(self._files.record, replace(recorded, end=None, prefix=None, completion=None))

    def kept_lines(self, record: RunRecord) -> Iterator[bytes]:
        """Yield the whole lines that an interrupted run has left; `begin` then continues after them.

        Raise `OutputError` if it was a different run, or if they have changed since.
        """
        if not (files := self._files) or not self._has_rows():
            return
        recorded = read_record(files.record)
        if not recorded:
            raise OutputError(f"cannot resume {files.partial}: the record of its run, {files.record}, is unreadable")
        self.has_grown = self._follows_input and recorded.has_grown(record)
        if differences := recorded.differences(record, ignored=["input"] if self.has_grown else ()):
            kind = DifferentRunError if recorded.differences(record, ignored=["input"]) else OutputError
            raise kind(
                f"cannot resume {files.partial}: it is from a different run: {'; '.join(differences)}. "
                "Use the same input and options. To score all rows, remove --resume"
            )
        self._is_resumed = True
        self.mismatched_before.update(by_bin(recorded.mismatched))
        for line in self._output.kept_lines():
            before = self._written.copy()
            self._written.add(line)
            self._compare(recorded.prefix, len(line))
            yield line
            if self._is_dropped:
                self._is_dropped = False
                self._written = before
                self._output.drop_line(line)

    def drop_line(self) -> None:
        """Do not keep the line that `kept_lines` has given last."""
        self._is_dropped = True

    def restart(self) -> None:
        """Keep none of the lines."""
        self._written = PrefixHash()
        self.mismatched_before.clear()
        self._is_resumed = False
        self._output.keep_nothing()

    def _compare(self, prefix: Prefix | None, added: int) -> None:
        """Raise `OutputError` if the rows kept so far, with the last of `added` bytes, differ from the prefix.

        A file that is shorter than the prefix lost its end in a power cut. What is left of it is kept.
        """
        size = self._written.size
        if prefix and size - added < prefix.size <= size and self._written.prefix != prefix:
            raise OutputError(
                f"cannot resume {self._output.name}: its first {prefix.size} bytes have changed since they were "
                "written. To score all rows, remove --resume"
            )

    def begin(self, record: RunRecord) -> None:
        """Open the output after the lines that are kept."""
        if self._files and self._has_rows() and not self._is_resumed:
            log.warning("scoring all rows: the rows of an interrupted run in %s are dropped", self._files.partial)
        self._output.begin()
        # Only after older rows are removed, so that this record is never beside rows of a different run.
        self._record = record if self._files else None
        self._write_record()
        self._next_record = monotonic() + SECONDS_BETWEEN_RECORDS
        self.has_begun = True

    def write(self, content: bytes) -> None:
        """Write whole rows and, from time to time, their hash to the record."""
        self._output.write(content)
        if self._record:
            self._written.add(content)
            time = monotonic()
            if time >= self._next_record:
                self._write_record()
                self._next_record = time + SECONDS_BETWEEN_RECORDS

    def _write_record(self, **changes: Any) -> None:
        if self._files and self._record:
            with output_errors(self._output.name):
                scores, mismatched = (as_texts(each) for each in (self.counts.histogram, self.counts.mismatched))
                record = replace(
                    self._record, prefix=self._written.prefix, scores=scores, mismatched=mismatched, **changes
                )
                write_record(self._files.record, record)

    def complete(self, rows: int, failed: int, write: WriteFile | None = None) -> None:
        """Make the output final, once it is safely on the disk. `write` gives its content if that is not the rows."""
        self._output.flush()
        if finished := self._output.finished_file(write):
            with output_errors(self._output.name):
                status = finished.stat()
            self._write_record(end=now(), completion=Completion(rows, failed, status.st_size, status.st_mtime_ns))
        self._record = None  # it is final
        self._output.complete()

    def discard(self) -> None:
        """Remove the partial output and its record."""
        self._record = None
        self._output.discard()
        if self._files:
            with output_errors(self._output.name):
                self._files.record.unlink(missing_ok=True)


def has_content(path: Path) -> bool:
    """Return whether there is a file that is not empty."""
    return path.exists() and path.stat().st_size > 0


def by_bin(counts: Mapping[str, int] | None) -> Counter[int]:
    """Return the counts of a record by bin."""
    return Counter({int(place): count for place, count in (counts or {}).items()})


def as_texts(counts: Counter[int]) -> dict[str, int]:
    """Return counts as a record has them, by bins as texts."""
    return {str(place): count for place, count in sorted(counts.items())}
