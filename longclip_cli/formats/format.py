"""What every format of rows can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO, ClassVar

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

    def write_file(
        self, file: BinaryIO, source: Input, results: Iterator[Result], options: ScoringOptions, output: InputFormat
    ) -> None:
        """Write the rows of an input with their results, in the format `output`, which is not JSONL.

        `results` may end before the rows, which then end, too. Raises `InputError` and `OSError`.
        """
        raise NotImplementedError

    def write_lines(self, file: BinaryIO, lines: Iterable[bytes]) -> None:
        """Write a finished file from lines of JSONL, which can be read twice. Raises `OSError`."""
        raise NotImplementedError
