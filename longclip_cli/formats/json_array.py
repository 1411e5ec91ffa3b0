"""JSON arrays: elements to rows, and rows with their results to an array or to JSONL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO

from longclip_cli.errors import RowError
from longclip_cli.formats.elements import Element, one_line, read_elements
from longclip_cli.formats.format import Format
from longclip_cli.formats.inputs import InputFields
from longclip_cli.formats.jsonl import Record, encode_record, fields_of, read_values, result_in
from longclip_cli.options import InputFormat, ScoringOptions
from longclip_cli.rows import Mark, Result, Row, Rows
from longclip_cli.storage.source import Input


class JsonArray(Format):
    """One JSON array whose elements are objects; it is never held whole."""

    name = "json"
    suffixes = (".json",)
    outputs = ("json", "jsonl")

    def read_rows(self, source: Input, options: ScoringOptions, *, whole: bool) -> Rows:
        """Yield the rows of an input, and `PAUSE` for a long run of white space. Raises `InputError`."""
        read = partial(read_element, fields=InputFields(options))
        return (Mark.PAUSE if element.is_blank else read(element) for element in read_elements(source))

    def fields_of(self, row: Row) -> Mapping[str, object]:
        """Return the fields of a row; none if its element is no object."""
        return fields_of(row)

    def content_of(self, row: Row) -> bytes:
        """Return the element that a row was read from."""
        content: bytes = row.origin.content
        return content

    def encode_line(self, row: Row, output_key: str, result: Result) -> bytes:
        """Return the element and its result, without the line breaks between its tokens."""
        record: Record = row.origin
        return encode_record(Record(one_line(record.content), record.keys), output_key, result) + b"\n"

    def write_file(
        self, file: BinaryIO, source: Input, results: Iterator[Result], options: ScoringOptions, output: InputFormat
    ) -> None:
        """Write an array of the elements, which keep their bytes, with their results."""
        rows = (row for row in self.read_rows(source, options, whole=True) if row is not Mark.PAUSE)
        key = options.output_key
        write_array(file, (encode_record(row.origin, key, result) for row, result in zip(rows, results, strict=False)))

    def write_lines(self, file: BinaryIO, lines: Iterable[bytes]) -> None:
        """Write an array of lines."""
        write_array(file, (line.rstrip(b"\n") for line in lines))

    def read_results(self, source: Input, options: ScoringOptions) -> Iterator[tuple[Row, Result | None]]:
        """Yield the rows of a scored input with their results. Raises `InputError`."""
        fields = InputFields(options)
        for element in read_elements(source):
            if not element.is_blank:
                values = read_values(element.content, element.number, "element")
                yield row_of(element, values, fields), result_in(values, options.output_key)

    def write_chosen(self, file: BinaryIO, source: Input, chosen: Iterator[bool]) -> None:
        """Write an array of the chosen elements. Raises `InputError` and `OSError`."""
        elements = (element.content for element in read_elements(source) if not element.is_blank)
        write_array(file, (content for content, is_chosen in zip(elements, chosen, strict=False) if is_chosen))


def read_element(element: Element, fields: InputFields) -> Row:
    """Return the row that an element of an array holds, with the error of an element that holds none."""
    return row_of(element, read_values(element.content, element.number, "element"), fields)


def row_of(element: Element, values: dict[str, Any] | RowError, fields: InputFields) -> Row:
    """Return the row that an element with these values is."""
    keys, inputs = (values, values) if isinstance(values, RowError) else (tuple(values), fields.find(values))
    return Row(element.number, inputs, Record(element.content, keys), element.offset, 2 * len(element.content))


def write_array(file: BinaryIO, elements: Iterator[bytes]) -> None:
    """Write an array of encoded elements."""
    before = b"[\n"
    for element in elements:
        file.write(before + element)
        before = b",\n"
    file.write(b"\n]\n" if before == b",\n" else b"[]\n")
