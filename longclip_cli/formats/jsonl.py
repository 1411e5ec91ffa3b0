"""JSONL: lines to rows, and rows with their results to lines, which keep their bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from longclip_cli.errors import RowError
from longclip_cli.formats.format import Format
from longclip_cli.formats.inputs import InputFields
from longclip_cli.formats.json_text import json_string, object_of, parse_object, with_members
from longclip_cli.formats.lines import Line, read_lines, with_end
from longclip_cli.formats.results import result_members, result_of
from longclip_cli.options import ScoringOptions, error_key
from longclip_cli.rows import Mark, Result, Row, RowErrors, Rows
from longclip_cli.storage.source import Input

UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """The bytes of a JSON text and the keys of its object, or the error that says why it is no JSON object.

    The values are not kept: a row may wait for the model, and a field may be large.
    """

    content: bytes
    keys: tuple[str, ...] | RowError


class Jsonl(Format):
    """One JSON object a line."""

    name = "jsonl"
    suffixes = (".jsonl", ".ndjson", ".jsonlines")
    outputs = ("jsonl",)
    streams = True

    def read_rows(self, source: Input, options: ScoringOptions, *, whole: bool) -> Rows:
        """Yield the rows of an input, and `PAUSE` for a long run of blank lines. Raises `InputError`."""
        read = partial(read_line, fields=InputFields(options))
        return (Mark.PAUSE if line.is_blank else read(line) for line in read_lines(source))

    def fields_of(self, row: Row) -> Mapping[str, object]:
        """Return the fields of a row; none if its line is no JSON object."""
        return fields_of(row)

    def content_of(self, row: Row) -> bytes:
        """Return the line that a row was read from, line end and all."""
        content: bytes = row.origin.content
        return content

    def encode_line(self, row: Row, output_key: str, result: Result) -> bytes:
        """Return the output line of a row: its input line and its result."""
        return encode_record(row.origin, output_key, result).rstrip(b"\n") + b"\n"

    def write_lines(self, file: BinaryIO, lines: Iterable[bytes]) -> None:
        """Write lines as they are."""
        file.writelines(lines)

    def read_results(self, source: Input, options: ScoringOptions) -> Iterator[tuple[Row, Result | None]]:
        """Yield the rows of a scored input with their results. Raises `InputError`."""
        fields = InputFields(options)
        for line in read_lines(source):
            if not line.is_blank:
                values = read_values(text_of(line), line.number)
                yield row_of(line, values, fields), result_in(values, options.output_key)

    def write_chosen(self, file: BinaryIO, source: Input, chosen: Iterator[bool]) -> None:
        """Write the chosen lines. Raises `InputError` and `OSError`."""
        lines = (line.content for line in read_lines(source) if not line.is_blank)
        file.writelines(with_end(line) for line, is_chosen in zip(lines, chosen, strict=False) if is_chosen)


def read_line(line: Line, fields: InputFields) -> Row:
    """Return the row that a line holds, with the error of a line that holds none."""
    return row_of(line, read_values(text_of(line), line.number), fields)


def text_of(line: Line) -> bytes:
    """Return a line without the byte order mark that the first one may have."""
    return line.content.removeprefix(UTF8_BOM) if line.number == 1 else line.content


def row_of(line: Line, values: dict[str, Any] | RowError, fields: InputFields) -> Row:
    """Return the row that a line with these values is."""
    keys, inputs = (values, values) if isinstance(values, RowError) else (tuple(values), fields.find(values))
    # As bytes, and as the string that its image and text are.
    size = 2 * len(line.content)
    is_terminated = line.content.endswith(b"\n")
    return Row(line.number, inputs, Record(line.content, keys), line.offset, size, is_terminated=is_terminated)


def read_values(text: bytes, number: int, unit: str = "line") -> dict[str, Any] | RowError:
    """Return the fields of a JSON object, or the error that says why the line, or `unit`, `number` holds none."""
    try:
        with RowErrors():
            return parse_object(text, number, unit)
    except RowError as error:
        return error.with_traceback(None)


def result_in(values: dict[str, Any] | RowError, output_key: str) -> Result | None:
    """Return the result among the fields of a row; `None` if they hold none that a run has written."""
    return None if isinstance(values, RowError) else result_of(values, output_key)


def fields_of(row: Row) -> Mapping[str, object]:
    """Return the fields of a row whose origin is a `Record`."""
    record: Record = row.origin
    return {} if isinstance(record.keys, RowError) else parse_object(record.content.removeprefix(UTF8_BOM), row.number)


def encode_record(record: Record, output_key: str, result: Result) -> bytes:
    """Return a JSON text with its result.

    Old fields with the output key or its error key are removed. A text that is not a JSON object is kept as a string,
    in which bytes that are not UTF-8 become `\\xff`.
    """
    added = result_members(output_key, result)
    if isinstance(record.keys, RowError):
        text = record.content.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
        return object_of({**added, f"{output_key}_input": json_string(text)})
    replaced = {output_key, error_key(output_key)}
    return with_members(record.content, set(record.keys), added, replaced=replaced)
