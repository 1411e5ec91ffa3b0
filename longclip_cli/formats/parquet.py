"""Parquet: record batches to rows, and rows with their results to Parquet or JSONL."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from longclip_cli.errors import InputError, Reason, RowError, cut
from longclip_cli.formats.arrow_values import children, is_all_binary, is_text, json_of, python_values
from longclip_cli.formats.format import Format
from longclip_cli.formats.inputs import InputFields
from longclip_cli.formats.json_text import json_string, members
from longclip_cli.formats.parquet_file import MAGIC, MOST_BATCH_ROWS, ParquetFile
from longclip_cli.formats.results import result_members
from longclip_cli.formats.selectors import Selector, parse_selector
from longclip_cli.options import InputFormat, ScoringOptions, error_key
from longclip_cli.rows import EncodedImage, Result, Row, RowInputs, Rows
from longclip_cli.storage.source import Input

BATCH_BYTES = 16 * 2**20  # held once by the batch, and once by its values
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Origin:
    """What is kept of a row: its columns as members of a JSON object, and the fields that messages show."""

    members: bytes
    fields: Mapping[str, object]


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
            yield from RowReader(file, source, options, whole=whole).rows()

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
        from longclip_cli.formats.parquet_output import write_scored

        with source.file:
            read = ParquetFile(source)
            write_scored(file, read, results, options.output_key, is_list=has_list(read.schema, options))


@dataclass
class RowReader:
    """Makes rows of record batches."""

    file: ParquetFile
    source: Input
    options: ScoringOptions
    whole: bool
    _selectors: list[Selector] = field(init=False)
    _keyed: list[str] = field(init=False)  # columns that keys name
    _shape: dict[str, object] = field(init=False)  # of a row, for messages

    def __post_init__(self) -> None:
        options = self.options
        self._inputs = InputFields(options)
        self._selectors = [parse_selector(key) for key in (options.image_key, *options.text_key)]
        named = dict.fromkeys(selector.name for selector in self._selectors)
        self._keyed = [name for name in named if name in self.file.names]
        for name in self._keyed:
            if self.file.names.count(name) > 1:
                raise InputError(f"{self.source.name}: two columns are named '{cut(name)}'; rename one")
        self._replaced = {options.output_key, error_key(options.output_key)}
        self._shape = {column.name: shape_of(column.type) for column in self.file.schema}
        # Parquet output has one type for all rows; the lists in a column of single values would not fit.
        self._rejects_lists = not (self.whole or options.reduce != "none" or has_list(self.file.schema, options))

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all row groups."""
        columns = self.file.leaves(with_binary=self._keyed) if self.whole else self._keyed
        columns = columns or self.file.paths[:1]  # whose values say how many rows there are
        number = 0
        for group in range(len(self.file.row_groups)):
            for batch in self.file.batches(group, columns, BATCH_BYTES, MOST_BATCH_ROWS):
                yield from self._rows_of(batch, number)
                number += len(batch)

    def _rows_of(self, batch: Any, before: int) -> Iterator[Row]:
        with self.file.errors(f"row {before + 1} and those after it"):
            names: list[str] = batch.schema.names
            columns = [python_values(batch.column(names.index(name))) for name in self._keyed]
            lines = self._members_of(batch) if self.whole else [b""] * len(batch)
        total = max(1, sum(group.rows for group in self.file.row_groups))
        size = self.source.size or 0
        for index in range(len(batch)):
            values = {name: column[index] for name, column in zip(self._keyed, columns, strict=True)}
            number = before + index + 1
            yield self._row(number, values, lines[index], min(size, size * number // total))

    def _members_of(self, batch: Any) -> list[bytes]:
        """Return each row of a batch as members of a JSON object, less binary values and those that are replaced."""
        columns = []
        for column, values in zip(batch.schema, batch.columns, strict=True):
            if column.name not in self._replaced and not is_all_binary(column.type):
                key = json_string(column.name)
                columns.append([b"%b: %b" % (key, json_of(v)) for v in python_values(values, with_binary=False)])
        return [b", ".join(row) for row in zip(*columns, strict=True)] if columns else [b""] * len(batch)

    def _row(self, number: int, values: Mapping[str, object], line: bytes, offset: int) -> Row:
        inputs = self._inputs.find(values)
        if self._rejects_lists and isinstance(inputs, RowInputs) and inputs.reduce:
            inputs = list_error(inputs, self.options)
        fields = self._shape
        if isinstance(inputs, RowError):  # its message may show what JSON in a string holds
            fields = {**fields, **{name: value for name, value in values.items() if isinstance(value, str)}}
        return Row(number, inputs, Origin(line, fields), offset, size_of(inputs) + len(line))


def size_of(inputs: RowInputs | RowError) -> int:
    """Return how many bytes of memory what is scored takes."""
    if isinstance(inputs, RowError):
        return 0
    images = (image.content if isinstance(image, EncodedImage) else image for image in inputs.images)
    return sum(map(sys.getsizeof, (*images, *inputs.texts)))


def list_error(inputs: RowInputs, options: ScoringOptions) -> RowError:
    """Return the error of a list in a string that holds JSON, in an output whose scores are no lists."""
    if len(inputs.images) > 1:
        return RowError(Reason.NOT_A_PATH, f"'{cut(options.image_key)}' is a list in a string; add [] to --image-key")
    key = cut(options.text_key[0])
    return RowError(Reason.NOT_A_STRING, f"'{key}' is a list in a string; add [] to --text-key, or use --reduce")


def has_list(schema: Any, options: ScoringOptions) -> bool:
    """Return whether the scores of rows with this schema are lists: known before any row is read."""
    if options.reduce != "none":
        return False
    selectors = [parse_selector(key) for key in (options.image_key, *options.text_key)]
    types = {column.name: column.type for column in schema}
    is_list = any(each.is_list or leads_to_list(types.get(each.name), each.steps) for each in selectors)
    return is_list or len(options.text_key) > 1


def leads_to_list(kind: Any, steps: Sequence[object]) -> bool:
    """Return whether the steps of a selector lead from values of a type to lists."""
    from pyarrow import types

    if kind is None:
        return False
    if steps and types.is_struct(kind):
        index = kind.get_field_index(steps[0])
        return index >= 0 and leads_to_list(kind.field(index).type, steps[1:])
    is_list = bool(children(kind)) and not types.is_struct(kind) and not types.is_map(kind)
    if steps and (is_list or types.is_map(kind)):
        return leads_to_list(children(kind)[-1], steps[1:])
    return is_list and not steps


def shape_of(kind: Any) -> object:
    """Return a value in which each field of a type is, for messages that list them."""
    from pyarrow import types

    if types.is_struct(kind):
        return {inner.name: shape_of(inner.type) for inner in kind}
    inside = children(kind)
    if types.is_map(kind) or not inside:
        return "" if is_text(kind) else None
    return [shape_of(inside[0])]
