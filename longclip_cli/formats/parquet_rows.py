"""Record batches of a Parquet file to rows."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from longclip_cli.errors import InputError, Reason, RowError, cut
from longclip_cli.formats.arrow_values import children, is_all_binary, is_text, json_of, python_values
from longclip_cli.formats.inputs import InputFields
from longclip_cli.formats.json_text import json_string
from longclip_cli.formats.parquet_file import MOST_BATCH_ROWS, ParquetFile
from longclip_cli.formats.selectors import parse_selector
from longclip_cli.options import ScoringOptions, error_key
from longclip_cli.rows import EncodedImage, Row, RowInputs

BATCH_BYTES = 16 * 2**20  # held once by the batch, and once by its values


@dataclass(frozen=True, slots=True)
class Origin:
    """What is kept of a row: its columns as members of a JSON object, and the fields that messages show."""

    members: bytes
    fields: Mapping[str, object]


class RowReader:
    """Makes rows of record batches. Raises `InputError` if a key, or a name in `also`, names two columns."""

    def __init__(self, file: ParquetFile, options: ScoringOptions, *, whole: bool, also: Sequence[str] = ()) -> None:
        self._file = file
        self._options = options
        self._whole = whole
        self._inputs = InputFields(options)
        keyed = [parse_selector(key).name for key in (options.image_key, *options.text_key)]
        self._keyed = [name for name in dict.fromkeys([*keyed, *also]) if name in file.names]  # columns to read
        for name in self._keyed:
            if file.names.count(name) > 1:
                raise InputError(f"{file.name}: two columns are named '{cut(name)}'; rename one")
        self._replaced = {options.output_key, error_key(options.output_key)}
        self._shape = {column.name: shape_of(column.type) for column in file.schema}  # of a row, for messages
        self._total = max(1, sum(group.rows for group in file.row_groups))
        # Parquet output has one type for all rows; the lists in a column of single values would not fit.
        self._rejects_lists = not (whole or options.reduce != "none" or has_list(file.schema, options))

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all row groups."""
        return (row for row, _ in self.rows_and_values())

    def rows_and_values(self) -> Iterator[tuple[Row, Mapping[str, object]]]:
        """Yield the rows of all row groups, each with its values in the columns that are named."""
        columns = self._file.leaves(with_binary=self._keyed) if self._whole else self._keyed
        columns = columns or self._file.paths[:1]  # whose values say how many rows there are
        number = 0
        for group in range(len(self._file.row_groups)):
            for batch in self._file.batches(group, columns, BATCH_BYTES, MOST_BATCH_ROWS):
                yield from self._rows_of(batch, number)
                number += len(batch)

    def _rows_of(self, batch: Any, before: int) -> Iterator[tuple[Row, Mapping[str, object]]]:
        with self._file.errors(f"row {before + 1} and those after it"):
            names: list[str] = batch.schema.names
            columns = [python_values(batch.column(names.index(name))) for name in self._keyed]
            lines = self._members_of(batch) if self._whole else [b""] * len(batch)
        for index in range(len(batch)):
            values = {name: column[index] for name, column in zip(self._keyed, columns, strict=True)}
            number = before + index + 1
            yield self._row(number, values, lines[index], self._file.size * number // self._total), values

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
            inputs = list_error(inputs, self._options)
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
