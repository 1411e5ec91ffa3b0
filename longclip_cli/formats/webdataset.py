"""WebDataset: samples in a tar archive to rows, and rows with their results to lines or to a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import orjson

from longclip_cli.errors import InputError, Reason, RowError, cut
from longclip_cli.formats.elements import UTF8_BOM, one_line
from longclip_cli.formats.format import Format
from longclip_cli.formats.inputs import InputFields
from longclip_cli.formats.json_text import LENIENT_JSON, json_string, object_of
from longclip_cli.formats.results import result_members
from longclip_cli.formats.sample_table import find_columns, import_pyarrow, write_lines_as_table, write_table
from longclip_cli.formats.samples import Kind, Sample, kind_of, read_samples
from longclip_cli.formats.selectors import parse_selector
from longclip_cli.options import STANDARD_STREAM, InputFormat, ScoringOptions, error_key
from longclip_cli.rows import Mark, Result, Row, RowErrors, RowInputs, Rows
from longclip_cli.storage.source import Input, open_input

TEXT_KEY = "txt"  # the default, where that of other formats is `text`


@dataclass(frozen=True, slots=True)
class Record:
    """What is written of a sample: its fields, each with its value in JSON. `others` are names of further members."""

    fields: dict[str, bytes]
    others: tuple[str, ...]


class WebDataset(Format):
    """A tar archive in which consecutive members whose names differ after the first dot only are one sample."""

    name = "webdataset"
    suffixes = (".tar",)
    outputs = ("jsonl", "parquet")

    def read_rows(self, source: Input, options: ScoringOptions, *, whole: bool) -> Rows:
        """Yield the samples of an input, and `PAUSE` for long content of no sample. Raises `InputError`."""
        if not whole:
            import_pyarrow()  # now, not when all rows are scored
        reader = SampleReader(options, source.name if source.path else STANDARD_STREAM)
        samples = read_samples(source, reader.kind_of)
        return (Mark.PAUSE if sample is Mark.PAUSE else reader.read(sample) for sample in samples)

    def fields_of(self, row: Row) -> Mapping[str, object]:
        """Return the members of a sample; those that are neither text nor JSON have no value here."""
        record: Record = row.origin
        return {name: parse_json(value) for name, value in record.fields.items()} | dict.fromkeys(record.others)

    def content_of(self, row: Row) -> bytes:
        """Return nothing: an input that gives a sample is an archive."""
        return b""

    def encode_line(self, row: Row, output_key: str, result: Result) -> bytes:
        """Return the text and JSON members of a sample, and its result. JSON keeps its bytes but for line breaks."""
        return object_of(fields_with(row, output_key, result)) + b"\n"

    def write_file(
        self, file: BinaryIO, source: Input, results: Iterator[Result], options: ScoringOptions, output: InputFormat
    ) -> None:
        """Write a Parquet file of the text and JSON members, with their results; JSON is a string there.

        The input is read twice, first for the names of the members.
        """
        again = open_input(source.name)
        if again.identity != source.identity:
            raise InputError(f"{source.name}: changed while it was read; run again without --resume")
        first = ((row.origin.fields, has_list(row)) for row in self._rows(again, options))
        columns = find_columns(first, options.output_key)
        rows = zip(results, self._rows(source, options), strict=False)
        write_table(file, columns, (fields_with(row, options.output_key, result) for result, row in rows))

    def _rows(self, source: Input, options: ScoringOptions) -> Iterator[Row]:
        return (row for row in self.read_rows(source, options, whole=True) if row is not Mark.PAUSE)

    def write_lines(self, file: BinaryIO, lines: Iterable[bytes]) -> None:
        """Write a Parquet file from lines, which are read twice."""
        write_lines_as_table(file, lines)


class SampleReader:
    """Makes rows of samples; `url` names their archive.

    Without `--image-key` the image is the one member of an image type. Without `--text-key` the text is the member
    `txt` or, if there is none, `text`. Raises `UsageError` as `InputFields` does.
    """

    def __init__(self, options: ScoringOptions, url: str) -> None:
        self._url = json_string(url)
        self._image_key = options.image_key
        self._finds_image = options.image_key == ScoringOptions.image_key
        self._image_name = parse_selector(options.image_key).name
        self._finds_text = options.text_key == ScoringOptions.text_key
        self._inputs = InputFields(replace(options, text_key=(TEXT_KEY,)) if self._finds_text else options)

    def kind_of(self, extension: str) -> Kind | None:
        """Return how members with this extension are read; `None` if they are not."""
        kind = kind_of(extension)
        if self._finds_image or kind in ("text", "json"):
            return kind
        return "image" if extension == self._image_name else None

    def read(self, sample: Sample) -> Row:
        """Return the row that a sample is, with the error of one that cannot be scored."""
        error = sample.error
        values: dict[str, Any] = {"__key__": sample.key}
        fields = {"__key__": json_string(sample.key), "__url__": self._url}
        for extension, content in sample.contents.items():
            try:
                values[extension], fields[extension] = decode_member(extension, content)
            except RowError as problem:
                error = error or problem.with_traceback(None)
                fields[extension] = json_string(content.decode("utf-8", "backslashreplace"))
        inputs = error or self._find(values, sample)
        record = Record(fields, (*sample.images, *sorted(sample.others)))
        size = sample.size + sum(map(len, fields.values()))
        if isinstance(inputs, RowError):
            size -= sum(len(image.content) for image in sample.images.values())
        return Row(sample.number, inputs, record, sample.offset, size)

    def _find(self, values: dict[str, Any], sample: Sample) -> RowInputs | RowError:
        """Return what is scored, from the values of the members that are text or JSON and from the images."""
        values = values | sample.images
        if self._finds_text and TEXT_KEY not in values and "text" in values:
            values[TEXT_KEY] = values["text"]
        if self._finds_image:
            if not sample.images:
                return RowError(Reason.NO_IMAGE_MEMBER)
            if len(sample.images) > 1:
                names = ", ".join(map(cut, list(sample.images)[:3])) + ", …" * (len(sample.images) > 3)
                return RowError(Reason.SEVERAL_IMAGE_MEMBERS, f"{names}; choose one with --image-key")
            (values[self._image_key],) = sample.images.values()
        return self._inputs.find(values)


def decode_member(extension: str, content: bytes) -> tuple[Any, bytes]:
    """Return the value of a member that is text or JSON, and the same in JSON on one line. Raises `RowError`."""
    with RowErrors():
        if kind_of(extension) == "text":
            try:
                text = content.decode()
            except UnicodeDecodeError as error:
                raise RowError(
                    Reason.MEMBER_NOT_UTF8, f"{cut(extension)}: {error.reason} at byte {error.start}"
                ) from None
            return text, json_string(text)
        try:
            content = content.removeprefix(UTF8_BOM).strip()
            return parse_json(content), one_line(content)
        except RecursionError:
            raise RowError(Reason.MEMBER_NOT_JSON, f"{cut(extension)}: nested too deeply") from None
        except ValueError as error:
            raise RowError(Reason.MEMBER_NOT_JSON, f"{cut(extension)}: {cut(str(error))}") from None


def parse_json(content: bytes) -> Any:
    """Return the value of JSON. Raises `ValueError`, or `RecursionError` for deep nesting."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return LENIENT_JSON.decode(content.decode())


def fields_with(row: Row, output_key: str, result: Result) -> dict[str, bytes]:
    """Return the fields of a row and its result, which replaces fields of the same names, with values in JSON."""
    record: Record = row.origin
    replaced = (output_key, error_key(output_key))
    kept = {name: value for name, value in record.fields.items() if name not in replaced}
    return kept | result_members(output_key, result)


def has_list(row: Row) -> bool:
    """Return whether the result of a row is a list."""
    return isinstance(row.inputs, RowInputs) and row.inputs.reduce == "none"
