"""CSV and TSV: records to rows, and rows with their results to records, which keep their bytes, or to JSONL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from sys import getsizeof
from typing import BinaryIO, ClassVar, Self

import orjson

from longclip_cli.errors import Reason, RowError
from longclip_cli.formats.csv_header import Header, read_header, text_error
from longclip_cli.formats.dialects import Dialect, split_end
from longclip_cli.formats.format import Format
from longclip_cli.formats.inputs import InputFields
from longclip_cli.formats.json_text import json_string, members
from longclip_cli.formats.lines import with_end
from longclip_cli.formats.records import TextRecord, read_records
from longclip_cli.formats.results import decode_result, result_members, result_of
from longclip_cli.options import InputFormat, ScoringOptions, error_key
from longclip_cli.rows import Mark, Result, Row, RowErrors, RowInputs, Rows, error_of
from longclip_cli.storage.source import Input


class SeparatedText(Format):
    """Records of fields between separators; the first one names the columns. An instance reads one input.

    A record has the columns of the result added as its last ones. If it has too few fields, empty ones are added before
    them; if it has too many, those that are too many become a part of the last one. So columns stay aligned.
    """

    streams = True
    dialect: ClassVar[Dialect]
    _header: Header  # once the rows are read

    def for_input(self) -> Self:
        """Return a new instance, which remembers the header of its input."""
        return type(self)()

    def read_rows(self, source: Input, options: ScoringOptions, *, whole: bool) -> Rows:
        """Read the header, and return the rows; `PAUSE` stands where blank lines or a record are long."""
        fields = InputFields(options)
        records = self._records(source, options)
        return (Mark.PAUSE if each.is_blank else self._row(each, self._columns(each), fields) for each in records)

    def _records(self, source: Input, options: ScoringOptions) -> Iterator[TextRecord]:
        """Read the header, and return the records after it."""
        records = read_records(source, self.dialect)
        first = next((record for record in records if not record.is_blank), None)
        self._header = read_header(source, first, self.dialect, options)
        return records

    def _row(self, record: TextRecord, columns: list[bytes] | RowError, fields: InputFields) -> Row:
        values: dict[str, str] = {}
        inputs: RowInputs | RowError
        if isinstance(columns, RowError):
            inputs = columns
        else:
            values = {name: self._value(columns[index]) for name, index in self._header.read.items()}
            inputs = fields.find(values)
        content = record.content
        size = getsizeof(content) + sum(map(getsizeof, values.values()))
        is_terminated = content.endswith(b"\n")
        return Row(record.number, inputs, content, record.offset, size, is_terminated=is_terminated)

    def _columns(self, record: TextRecord) -> list[bytes] | RowError:
        """Return the fields of a record, or the error of one that is not what the header says."""
        try:
            with RowErrors():
                return self._checked(record)
        except RowError as error:
            return error.with_traceback(None)

    def _checked(self, record: TextRecord) -> list[bytes]:
        body, _ = split_end(record.content)
        if error := text_error(body, record.number, self.dialect):
            raise error
        width = len(self._header.names)
        fields = self.dialect.split(body, width)
        if len(fields) > width:
            raise RowError.of_line(Reason.TOO_MANY_FIELDS, record.number, f"the header has {width}")
        if len(fields) < width:
            raise RowError.of_line(Reason.TOO_FEW_FIELDS, record.number, f"{len(fields)}, the header has {width}")
        return fields

    def _value(self, field: bytes) -> str:
        return self.dialect.unquote(field).decode()

    def _fields(self, body: bytes) -> list[bytes]:
        """Return the fields of a record, as they are if it has as many as the header."""
        width = len(self._header.names)
        fields = self.dialect.split(body, width)
        if len(fields) > width:
            fields[-2:] = [self.dialect.quote(self.dialect.delimiter.join(fields[-2:]))]
        return fields + [b""] * (width - len(fields))

    def _texts(self, row: Row) -> list[str]:
        """Return the values of a row, by column. Bytes that are not UTF-8 become `\\xff`."""
        fields = self._fields(split_end(row.origin)[0])
        return [self.dialect.unquote(field).decode("utf-8", "backslashreplace") for field in fields]

    def fields_of(self, row: Row) -> Mapping[str, object]:
        """Return the fields of a row, all of them strings."""
        return dict(zip(self._header.names, self._texts(row), strict=True))

    def content_of(self, row: Row) -> bytes:
        """Return the record that a row was read from, line end and all."""
        content: bytes = row.origin
        return content

    def no_row(self, content: bytes) -> str:
        """Return why an input has no row."""
        names = self._header.names
        return (
            f"no record is UTF-8 text with the {len(names)} fields that the header names; is a value with a separator, "
            "a quotation mark or a line break in it not quoted?"
        )

    def encode_line(self, row: Row, output_key: str, result: Result) -> bytes:
        """Return an object of strings, and the result. Columns of one name are members of one key."""
        texts, names = self._texts(row), self._header.names
        pairs = [b"%b: %b" % (json_string(names[index]), json_string(texts[index])) for index in self._header.kept]
        return b"{%b}\n" % b", ".join([*pairs, *members(result_members(output_key, result))])

    def encode_row(self, row: Row, output_key: str, result: Result) -> bytes:
        """Return the record and its result. It keeps its bytes, less those of columns that the result replaces."""
        body, end = split_end(row.origin)
        fields = self._fields(body)
        return self._join([fields[index] for index in self._header.kept], self._cells(result), end)

    def stream_start(self) -> bytes:
        """Return the header, with the columns of the result."""
        header, key = self._header, self._header.output_key
        added = [name.encode("utf-8", "backslashreplace") for name in (key, error_key(key))]
        return header.start + self._join([header.fields[index] for index in header.kept], added, header.end)

    def _cells(self, result: Result) -> list[bytes]:
        """Return the score, or a list of them as JSON, and the error; each may be empty."""
        score = b"" if isinstance(result, RowError) else result_members("score", result)["score"]
        return [score, str(error_of(result) or "").encode("utf-8", "backslashreplace")]

    def _join(self, fields: list[bytes], values: list[bytes], end: bytes) -> bytes:
        return self.dialect.delimiter.join([*fields, *map(self.dialect.quote, values)]) + end

    def write_file(
        self, file: BinaryIO, source: Input, results: Iterator[Result], options: ScoringOptions, output: InputFormat
    ) -> None:
        """Write the header and the records with their results."""
        rows = (row for row in self.read_rows(source, options, whole=True) if row is not Mark.PAUSE)
        file.write(self.stream_start())
        for result, row in zip(results, rows, strict=False):
            file.write(self.encode_row(row, options.output_key, result))

    def write_lines(self, file: BinaryIO, lines: Iterable[bytes]) -> None:
        """Write the header and, from lines that `encode_line` has made, records. Only needed quotes are written."""
        header = self._header
        file.write(self.stream_start())
        for line in lines:
            result = decode_result(line, header.output_key)
            assert result is not None, "a line has a result"
            pairs = json.loads(line, object_pairs_hook=list)[: len(header.kept)]
            values = [str(value).encode() for _, value in pairs]
            file.write(self._join([], [*values, *self._cells(result)], header.end or b"\n"))

    def read_results(self, source: Input, options: ScoringOptions) -> Iterator[tuple[Row, Result | None]]:
        """Yield the rows of a scored input with their results. Raises `InputError`."""
        fields = InputFields(options)
        for record in self._records(source, options):
            if not record.is_blank:
                columns = self._columns(record)
                yield self._row(record, columns, fields), self._result(columns)

    def _result(self, columns: list[bytes] | RowError) -> Result | None:
        """Return the result in the columns of a record; `None` if they hold none that a run has written."""
        key, names = self._header.output_key, self._header.names
        if isinstance(columns, RowError) or key not in names:
            return None
        cells = {name: self._value(columns[names.index(name)]) for name in (key, error_key(key)) if name in names}
        try:
            value = orjson.loads(cells[key] or "null")
        except orjson.JSONDecodeError:
            return None
        return result_of({**cells, key: value}, key)

    def write_chosen(self, file: BinaryIO, source: Input, chosen: Iterator[bool]) -> None:
        """Write the header and the chosen records. Raises `InputError` and `OSError`."""
        records = (record.content for record in read_records(source, self.dialect) if not record.is_blank)
        file.write(next(records, b""))
        file.writelines(with_end(content) for content, is_chosen in zip(records, chosen, strict=False) if is_chosen)

    def start_as_read(self) -> bytes:
        """Return the header."""
        header = self._header
        return header.start + self.dialect.delimiter.join(header.fields) + header.end


class Csv(SeparatedText):
    """Comma-separated values, as in RFC 4180 and as pandas and Excel write them."""

    name = "csv"
    suffixes = (".csv",)
    outputs = ("csv", "jsonl")
    dialect = Dialect(b",")


class Tsv(SeparatedText):
    """Tab-separated values, otherwise as CSV."""

    name = "tsv"
    suffixes = (".tsv",)
    outputs = ("tsv", "jsonl")
    dialect = Dialect(b"\t")
