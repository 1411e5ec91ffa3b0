"""Parquet: files to rows, and rows with their results to Parquet or JSONL."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from longclip_cli.errors import cut
from longclip_cli.formats.format import Format
from longclip_cli.formats.json_text import members
from longclip_cli.formats.parquet_file import MAGIC, ParquetFile
from longclip_cli.formats.parquet_output import write_scored
from longclip_cli.formats.parquet_rows import Origin, RowReader, has_list
from longclip_cli.formats.parquet_scored import read_results, write_chosen
from longclip_cli.formats.results import result_members
from longclip_cli.options import InputFormat, ScoringOptions
from longclip_cli.rows import Result, Row, Rows
from longclip_cli.storage.source import Input

log = logging.getLogger(__name__)


class Parquet(Format):
    """A Parquet file, read a part of a row group at a time."""

    name = "parquet"
    suffixes = (".parquet", ".parq", ".pq")
    outputs = ("parquet", "jsonl")
    seeks = True

    def __init__(self) -> None:
        self._named: set[tuple[str, ...]] = set()  # binary columns that a message has named

    def read_rows(self, source: Input, options: ScoringOptions, *, whole: bool) -> Rows:
        """Yield the rows of an input. Raises `InputError`."""
        with source.file:
            file = ParquetFile(source)
            if whole:
                self._name_binary(source, file)
            yield from RowReader(file, options, whole=whole).rows()

    def _name_binary(self, source: Input, file: ParquetFile) -> None:
        """Say, once for all files with the same columns, what JSONL leaves out."""
        left_out = tuple(file.binary_leaves())
        if left_out and left_out not in self._named:
            self._named.add(left_out)
            names = cut(", ".join(left_out))
            log.warning("%s: binary columns are left out of JSONL: %s; -o FILE.parquet keeps them", source.name, names)

    def fields_of(self, row: Row) -> Mapping[str, object]:
        """Return the columns of a row, in which only what was read has values."""
        origin: Origin = row.origin
        return origin.fields

    def content_of(self, row: Row) -> bytes:
        """Return the first bytes of each Parquet file: a row has none of its own."""
        return MAGIC

    def encode_line(self, row: Row, output_key: str, result: Result) -> bytes:
        """Return a row as a line of JSON, less its binary columns."""
        origin: Origin = row.origin
        added = b", ".join(members(result_members(output_key, result)))
        return b"{%b}\n" % (b"%b, %b" % (origin.members, added) if origin.members else added)

    def write_file(
        self, file: BinaryIO, source: Input, results: Iterator[Result], options: ScoringOptions, output: InputFormat
    ) -> None:
        """Write the columns of an input, as they are, with their results."""
        with source.file:
            read = ParquetFile(source)
            write_scored(file, read, results, options.output_key, is_list=has_list(read.schema, options))

    def read_results(self, source: Input, options: ScoringOptions) -> Iterator[tuple[Row, Result | None]]:
        """Yield the rows of a scored input with their results. Raises `InputError`."""
        with source.file:
            yield from read_results(ParquetFile(source), options)

    def write_chosen(self, file: BinaryIO, source: Input, chosen: Iterator[bool]) -> None:
        """Write the chosen rows, with the columns, types, row groups and metadata of the input."""
        with source.file:
            write_chosen(file, ParquetFile(source), chosen)
