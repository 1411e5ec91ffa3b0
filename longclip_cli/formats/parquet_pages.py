"""What a Parquet file says about its row groups and pages, read before pyarrow reads them.

pyarrow checks much of it, but not that a page has room in memory, and it ends the process for some broken metadata.
The numbers of fields are those of `parquet.thrift`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from longclip_cli.formats.thrift import CompactReader, ThriftError, size_in

FOOTER_END = 8  # bytes after a footer: its length, and the magic number
LONGEST_FOOTER = 64 * 2**20
HEADER_BYTES = 256  # of a page; a longer one, as with statistics of long values, is read again
LONGEST_HEADER = 16 * 2**20  # as pyarrow has it
ROW_GROUPS = 4  # the field of the footer
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
DETAILS = {DATA_PAGE: 5, DICTIONARY_PAGE: 7, DATA_PAGE_V2: 8}  # fields with more about a page
DELTA_BYTE_ARRAY = 7  # an encoding in which a value repeats the start of the one before
CODECS = ("NONE", "SNAPPY", "GZIP", "LZO", "BROTLI", "LZ4", "ZSTD", "LZ4")  # as pyarrow calls them when it writes


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a row group: where its pages are, and their sizes in bytes."""

    path: str
    codec: str
    begin: int
    compressed: int
    uncompressed: int
    has_dictionary: bool
    has_statistics: bool
    has_index: bool


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group."""

    rows: int
    columns: tuple[Column, ...]

    @property
    def row_bytes(self) -> int:
        """How many bytes a row has, on average."""
        return sum(column.uncompressed for column in self.columns) // max(1, self.rows)


@dataclass(frozen=True, slots=True)
class Page:
    """What a page's header says. `expands` is whether its bytes may become many times as many values."""

    uncompressed: int
    values: int
    expands: bool


def read_row_groups(descriptor: int, size: int) -> list[RowGroup]:
    """Return the row groups of a file of `size` bytes. Raise `ThriftError` and `OSError`."""
    length = int.from_bytes(os.pread(descriptor, 4, size - FOOTER_END), "little")
    if length > min(LONGEST_FOOTER, size - FOOTER_END):
        raise ThriftError(f"it is said to have {length} bytes")
    reader = CompactReader(os.pread(descriptor, length, size - FOOTER_END - length))
    groups = []
    try:
        for number, kind in reader.fields():
            if number == ROW_GROUPS:
                groups = [row_group(fields) for fields in reader.elements()]
            else:
                reader.value(kind)
    except IndexError:
        raise ThriftError("it is cut") from None
    return groups


def row_group(fields: Any) -> RowGroup:
    """Return a row group from its fields. Raise `ThriftError`."""
    columns = fields.get(1) if isinstance(fields, dict) else None
    if not isinstance(columns, list):
        raise ThriftError("a row group has no columns")
    return RowGroup(size_in(fields, 3), tuple(map(column_chunk, columns)))


def column_chunk(chunk: Any) -> Column:
    """Return a column from its fields. Raise `ThriftError`."""
    about = chunk.get(3) if isinstance(chunk, dict) else None
    if not isinstance(about, dict):
        raise ThriftError("a column is not described, or encrypted")
    names, codec = about.get(3), size_in(about, 4)
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names) or codec >= len(CODECS):
        raise ThriftError("a column is not described as it should be")
    data = size_in(about, 9)
    dictionary = size_in(about, 11) if 11 in about else 0
    has_dictionary = 0 < dictionary < data
    return Column(
        path=b".".join(names).decode("utf-8", "replace"),
        codec=CODECS[codec],
        begin=dictionary if has_dictionary else data,
        compressed=size_in(about, 7),
        uncompressed=size_in(about, 6),
        has_dictionary=has_dictionary,
        has_statistics=12 in about,
        has_index=4 in chunk,
    )


def read_pages(descriptor: int, column: Column) -> Iterator[Page]:
    """Yield the pages of a column. Raise `ThriftError` and `OSError`."""
    begin, end = column.begin, column.begin + column.compressed
    while begin < end:
        header, length = read_header(descriptor, begin, end)
        kind, uncompressed, compressed = (size_in(header, number) for number in (1, 2, 3))
        about = header.get(DETAILS.get(kind, 0), {1: 0})
        if not isinstance(about, dict):
            raise ThriftError("a page's header is broken")
        encoding = about.get(4 if kind == DATA_PAGE_V2 else 2)
        expands = kind == DICTIONARY_PAGE or encoding == DELTA_BYTE_ARRAY
        yield Page(uncompressed, size_in(about, 1), expands)
        begin += length + compressed


def read_header(descriptor: int, begin: int, end: int) -> tuple[dict[int, Any], int]:
    """Return the header of the page at `begin`, and its length in bytes. Raise `ThriftError` and `OSError`."""
    most = HEADER_BYTES
    while True:
        content = os.pread(descriptor, min(most, end - begin), begin)
        reader = CompactReader(content)
        try:
            return reader.struct(), reader.position
        except IndexError:
            if len(content) < most or most >= LONGEST_HEADER:
                raise ThriftError("a page's header is cut") from None
            most *= 16
