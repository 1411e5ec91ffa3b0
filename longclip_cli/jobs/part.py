"""One input and its output while a run works on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from longclip_cli.errors import InputError, LongCLIPError, OutputError, UsageError
from longclip_cli.formats.detect import FORMATS, detect_format, output_format
from longclip_cli.formats.format import Format
from longclip_cli.formats.results import decode_result, encode_result
from longclip_cli.jobs.plan import Part
from longclip_cli.jobs.recorded_output import RecordedOutput
from longclip_cli.jobs.run_record import Completion, RunRecord
from longclip_cli.jobs.signals import Stop
from longclip_cli.options import InputFormat, ScoringOptions
from longclip_cli.reporting.counts import Counts
from longclip_cli.rows import Mark, Result, Row, Rows, ScoredRow
from longclip_cli.storage.source import Input, open_input
from longclip_cli.storage.target import WriteFile

MOST_SNIFFED = 4096
WRITE_BYTES = 2**20  # of rows that are joined before they are written, at least


class OpenPart:
    """An input and its output, both open. Raises `UsageError` if rows of its format cannot be written as its name says.

    The thread that reads creates it. From its first row on it belongs to the thread that writes, but for `rows_read`,
    `error` and `has_ended`, which the thread that reads sets in this order when the input has ended.
    """

    def __init__(
        self,
        part: Part,
        scoring: ScoringOptions,
        source: Input,
        output: RecordedOutput,
        stop: Stop,
        read: Format | None,
    ) -> None:
        self.part = part
        self.source = source
        self.output = output
        self.counts = Counts()
        self.format = read  # of a pipe, once its first bytes are there
        self.rows: Rows = iter(())  # those that are to be scored
        self.record: RunRecord | None = None
        self.earlier: Completion | None = None  # of a run that has left nothing to do
        self.failed: list[ScoredRow] | None = None  # all rows, if none needs the model
        self.rows_read = 0
        self.error: LongCLIPError | None = None
        self.has_ended = False
        self.abandoned: LongCLIPError | None = None  # why the rest of the rows is not wanted
        self.first_bytes = b""  # of the rows that were written, for messages
        self._rows_taken = 0
        self._scoring = scoring
        self._stop = stop
        # What cannot be read again has to be kept. A pipe's format may not be known yet; JSON is the widest guess.
        widest = FORMATS[scoring.input_format or "json"] if source.is_live and not read else self.find_format()
        can_reread = source.path is not None or (not source.is_live and widest.seeks)
        try:
            written_as = output_format(part.output, widest, is_stream=not output.is_file)
        except UsageError as error:
            if scoring.input_format or not source.is_live:
                raise
            raise UsageError(f"{error}; a pipe's format is not known in advance: add --input-format") from None
        self._writes_rows = written_as == "jsonl" or not can_reread or not output.is_file
        self._streams = False  # whether rows are written in the format of the input, one by one; set by `read`

    @cached_property
    def _output_format(self) -> InputFormat:
        return output_format(self.part.output, self.find_format(), is_stream=not self.output.is_file)

    def find_format(self) -> Format:
        """Return the format of the input; may wait for its first bytes. Raise `InputError`."""
        self.format = self.format or detect_format(self.source, self._scoring.input_format)
        return self.format

    def read(self) -> Rows:
        """Yield the rows of the input, as many as are wanted. Raise `InputError`, or `UsageError` for the output."""
        wanted = self._scoring.limit
        read = self.find_format()
        self._streams = self._output_format == read.name and not self.output.is_file
        for row in read.read_rows(self.source, self._scoring, whole=self._writes_rows):
            yield row
            if wanted and row is not Mark.PAUSE and (wanted := wanted - 1) == 0:
                return

    def restart(self) -> None:
        """Read the input from its start again, and keep no row of the output."""
        self.source.file.close()
        self.source = open_input(self.part.input)
        self.output.restart()
        self.counts = Counts()

    def rows_of(self, size: int) -> int:
        """Return how many of the next `size` rows of the run are of this input, and count them.

        An input has ended before the first row of the next one is given.
        """
        count = min(size, self.rows_read - self._rows_taken) if self.has_ended else size
        self._rows_taken += count
        return count

    @property
    def is_written(self) -> bool:
        """Whether the input has ended, and all its rows have been taken."""
        return self.has_ended and self._rows_taken == self.rows_read

    def encode(self, row: Row, result: Result) -> bytes:
        """Return what is written of a row: a whole row or, if it is in a file and can be read again, its result."""
        read, key = self.find_format(), self._scoring.output_key
        if self._streams:
            return read.encode_row(row, key, result)
        return read.encode_line(row, key, result) if self._writes_rows else encode_result(key, result)

    def _begin(self) -> None:
        """Open the output, unless an earlier input of the run has. Raise `OutputError`."""
        assert self.record, "the part is prepared"
        if not self.output.has_begun:
            self.output.counts = self.counts
            self.output.begin(self.record)
            if self._streams:
                self.output.write(self.find_format().stream_start())

    def write(self, scored: Sequence[ScoredRow]) -> None:
        """Write and count some rows. Raise `OutputError`."""
        self._begin()
        self.first_bytes = self.first_bytes or self.find_format().content_of(scored[0].row)[:MOST_SNIFFED]
        for block in blocks(self.encode(done.row, done.result) for done in scored):
            self.output.write(block)
        self.counts.add(scored)

    def complete(self) -> None:
        """Make the output final. Raise `OutputError`, or `InputError` if the input has changed."""
        self._begin()
        self.output.complete(self.counts.rows, self.counts.failed, self._file_writer())

    def close(self) -> None:
        """Close the output and, unless another thread may be waiting for its next bytes, the input."""
        if not self.source.is_live:
            self.source.file.close()
        if self.output.is_file:
            self.output.__exit__(None, None, None)

    def _file_writer(self) -> WriteFile | None:
        """Return what makes the finished file from the partial one; `None` if that is finished already."""
        if not self.output.partial or self._output_format == "jsonl":
            return None
        return self._write_lines if self._writes_rows else self._write_results

    def _write_lines(self, file: BinaryIO) -> None:
        self.find_format().write_lines(file, Again(self._partial_lines))

    def _write_results(self, file: BinaryIO) -> None:
        from longclip_cli.pipeline.images import trim_heaps

        source = open_input(self.part.input)
        if source.identity != self.source.identity:
            raise InputError(f"{source.name}: changed while it was scored; run again without --resume")
        trim_heaps()  # of what rows have held: a row group of Parquet needs as much
        results = map(self._decode, self._partial_lines())
        self.find_format().write_file(file, source, results, self._scoring, self._output_format)
        if next(results, None) is not None:
            raise InputError(f"{source.name}: has fewer rows than were scored; run again without --resume")

    def _decode(self, line: bytes) -> Result:
        result = decode_result(line, self._scoring.output_key)
        if result is None:
            raise OutputError(f"{self.output.partial}: a line is not a result; run again without --resume")
        return result

    def _partial_lines(self) -> Iterator[bytes]:
        """Yield the lines of the partial output. Raise `Interrupted` if a signal has asked the run to stop."""
        assert self.output.partial, "it is a file"
        with self.output.partial.open("rb") as lines:
            for line in lines:
                self._stop.check()
                yield line


@dataclass(frozen=True)
class Again:
    """Lines that can be iterated over more than once."""

    read: Callable[[], Iterator[bytes]]

    def __iter__(self) -> Iterator[bytes]:
        return self.read()


def blocks(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Yield encoded rows, several at a time, without a second copy of large ones."""
    block: list[bytes] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row)
        if size >= WRITE_BYTES:
            yield b"".join(block)
            block, size = [], 0
    if block:
        yield b"".join(block)
