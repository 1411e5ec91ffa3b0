"""What every format of rows can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, ClassVar, Self

from longclip_cli.errors import InputError
from longclip_cli.formats.sniffing import seems_to_be
from longclip_cli.options import InputFormat, ScoringOptions
from longclip_cli.rows import Result, Row, Rows
from longclip_cli.storage.source import Input


class Format(ABC):
    """A format of rows: reads them, and writes them with their results.

    A format is added with a class in a file of this folder, and its name in `options.InputFormat` and `detect.FORMATS`.
    """

    name: ClassVar[InputFormat]
    suffixes: ClassVar[tuple[str, ...]]  # of file names, less that of a compression
    outputs: ClassVar[tuple[InputFormat, ...]]  # formats that its rows can be written in, the default one first
    streams: ClassVar[bool] = False  # whether its rows can be written one by one, as to standard output
    seeks: ClassVar[bool] = False  # whether files are read in any order, so that a pipe can't be

    def for_input(self) -> Self:
        """Return the format as one input has it; an instance that remembers nothing of its input serves all."""
        return self

    @abstractmethod
    def read_rows(self, source: Input, options: ScoringOptions, *, whole: bool) -> Rows:
        """Yield the rows of an input, and `PAUSE` where the next may take long. Raises `InputError`.

        If they are not `whole`, nobody will ask for their content: the file is written from the input, by `write_file`.
        """

    @abstractmethod
    def fields_of(self, row: Row) -> Mapping[str, object]:
        """Return the fields of a row, for messages; none if what was read is no row."""

    @abstractmethod
    def content_of(self, row: Row) -> bytes:
        """Return the bytes that a row was read from, for messages about what the input may be."""

    @abstractmethod
    def encode_line(self, row: Row, output_key: str, result: Result) -> bytes:
        """Return a row with its result as a line of JSONL."""

    def encode_row(self, row: Row, output_key: str, result: Result) -> bytes:
        """Return a row with its result in this format, if it streams."""
        return self.encode_line(row, output_key, result)

    def stream_start(self) -> bytes:
        """Return what precedes the rows in a stream of this format, once the first row is read or there is none."""
        return b""

    def no_row(self, content: bytes) -> str:
        """Return, for an error message, why an input that begins with `content` has no row."""
        return f"no line is a JSON object; it {seems_to_be(content)}"

    def write_file(
        self, file: BinaryIO, source: Input, results: Iterator[Result], options: ScoringOptions, output: InputFormat
    ) -> None:
        """Write the rows of an input with their results, in the format `output`, which is not JSONL.

        `results` may end before the rows, which then end, too. Raises `InputError` and `OSError`.
        """
        raise NotImplementedError

    def read_results(self, source: Input, options: ScoringOptions) -> Iterator[tuple[Row, Result | None]]:
        """Yield the rows of a scored input, each with its result; `None` if it holds none that a run has written.

        Raises `InputError`, also for a format in which no results are written.
        """
        raise InputError(f"{source.name}: {self.name} holds no scores; give the scored file, not the input of the run")

    def write_chosen(self, file: BinaryIO, source: Input, chosen: Iterator[bool]) -> None:
        """Write those rows of a scored input that are chosen, in order and with their bytes, in the input's own format.

        `chosen` has one value a row. If it ends before the rows, they end, too. Raises `InputError` and `OSError`.
        """
        raise NotImplementedError

    def start_as_read(self) -> bytes:
        """Return what precedes the rows in the input, once the first row is read or there is none."""
        return b""

    def write_lines(self, file: BinaryIO, lines: Iterable[bytes]) -> None:
        """Write a finished file from lines of JSONL, which can be read twice. Raises `OSError`."""
        raise NotImplementedError
