"""Samples and their results as a Parquet file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from longclip_cli.errors import OutputError
from longclip_cli.formats.json_text import STRUCTURE, member_key, member_spans
from longclip_cli.formats.samples import kind_of
from longclip_cli.options import ScoringOptions, error_key

if TYPE_CHECKING:
    import pyarrow

GROUP_ROWS = 10_000  # rows of a row group, at most
GROUP_BYTES = 64 * 2**20  # of their values in JSON
MOST_COLUMNS = 1000
Fields = Mapping[str, bytes]  # of a row: names and values in JSON


@dataclass(frozen=True)
class Columns:
    """The columns of a table: fields that are strings or JSON, then the score, a list if `is_list`, and its error."""

    names: tuple[str, ...]
    output_key: str
    is_list: bool

    @property
    def schema(self) -> pyarrow.Schema:
        """The names and types of all columns."""
        import pyarrow

        score = pyarrow.list_(pyarrow.float64()) if self.is_list else pyarrow.float64()
        strings = dict.fromkeys((*self.names, error_key(self.output_key)), pyarrow.string())
        types = {name: strings[name] for name in self.names} | {self.output_key: score} | strings
        return pyarrow.schema(types)

    def value_of(self, name: str, fields: Fields) -> Any:
        """Return the value of a column in a row; JSON is the string that it is written as."""
        content = fields.get(name)
        if content is None:
            return None
        if name in self.names and kind_of(name) == "json":
            return content.decode()
        value = orjson.loads(content)
        is_alone = self.is_list and name == self.output_key and value is not None and not isinstance(value, list)
        return [value] if is_alone else value


def import_pyarrow() -> None:
    """Raise `OutputError` if the pyarrow package is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise OutputError("writing Parquet needs the pyarrow package: pip install 'longclip-cli[parquet]'") from error


def find_columns(rows: Iterable[tuple[Fields, bool]], output_key: str) -> Columns:
    """Return the columns for rows, given with whether their result is a list. Raise `OutputError` if they are too many.

    They are in the order in which the rows have them first.
    """
    names: dict[str, None] = {}
    is_list = False
    for fields, has_list in rows:
        names |= dict.fromkeys(fields)
        is_list |= has_list
        if len(names) > MOST_COLUMNS:
            raise OutputError(f"the samples have more than {MOST_COLUMNS} different members; write JSONL instead")
    own = (output_key, error_key(output_key))
    return Columns(tuple(name for name in names if name not in own), output_key, is_list)


def write_table(file: BinaryIO, columns: Columns, rows: Iterator[Fields]) -> None:
    """Write rows in row groups of at most `GROUP_ROWS` rows and about `GROUP_BYTES` bytes."""
    import_pyarrow()
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = columns.schema
    with ParquetWriter(file, schema) as writer:
        for group in groups(rows):
            arrays = {name: [columns.value_of(name, fields) for fields in group] for name in schema.names}
            writer.write_table(pyarrow.Table.from_pydict(arrays, schema))


def groups(rows: Iterator[Fields]) -> Iterator[list[Fields]]:
    """Yield the rows of each row group."""
    group: list[Fields] = []
    size = 0
    for fields in rows:
        group.append(fields)
        size += sum(map(len, fields.values()))
        if len(group) == GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def write_lines_as_table(file: BinaryIO, lines: Iterable[bytes]) -> None:
    """Write rows from lines of JSONL, whose last fields are the score and, if there is one, its error.

    The lines are read twice, first for the names of the fields.
    """
    first = next(iter(lines), None)
    key = output_key_of(fields_of_line(first)) if first else ScoringOptions.output_key
    rows = map(fields_of_line, lines)
    columns = find_columns(((fields, fields[key].startswith(b"[")) for fields in rows), key)
    write_table(file, columns, map(fields_of_line, lines))


def output_key_of(fields: Fields) -> str:
    """Return the field of a row that is its score."""
    *_, before, last = chain([""], fields)
    return before if last == error_key(before) else last


def fields_of_line(line: bytes) -> dict[str, bytes]:
    """Return the fields of an object on a line, whose values keep their bytes."""
    opened = line[: line.rindex(b"}")]
    fields = {}
    for begin, end in member_spans(opened):
        key = STRUCTURE.search(opened, begin)
        assert key, "a member begins with its key"
        fields[member_key(opened, begin)] = opened[key.end() : end].partition(b":")[2].strip()
    return fields
