"""The headers of a Parquet file's pages, read before the pages, so that none expands to more than memory has room for.

They are in Thrift's compact protocol; the numbers of their fields are those of `parquet.thrift`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

HEADER_BYTES = 256  # most headers are shorter; one with statistics of long values is read again
LONGEST_HEADER = 16 * 2**20  # as pyarrow has it
DEEPEST = 8
BOOLEANS, BYTE, INTEGERS, DOUBLE, BINARY, LISTS, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
DETAILS = {DATA_PAGE: 5, DICTIONARY_PAGE: 7, DATA_PAGE_V2: 8}  # fields with more about a page
DELTA_BYTE_ARRAY = 7  # an encoding in which a value repeats the start of the one before


class PageError(Exception):
    """The header of a page is broken."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page's header says. `expands` is whether its bytes may become many times as many values."""

    uncompressed_size: int
    values: int
    expands: bool


def read_pages(descriptor: int, begin: int, size: int) -> Iterator[Page]:
    """Yield the pages of a column chunk, which has `size` bytes from `begin`. Raise `PageError` and `OSError`."""
    end = begin + size
    while begin < end:
        header, length = read_header(descriptor, begin, end)
        kind, uncompressed, compressed = (size_in(header, number) for number in (1, 2, 3))
        about = header.get(DETAILS.get(kind, 0), {1: 0})
        if not isinstance(about, dict):
            raise PageError("a page's header is broken")
        encoding = about.get(4 if kind == DATA_PAGE_V2 else 2)
        expands = kind == DICTIONARY_PAGE or encoding == DELTA_BYTE_ARRAY
        yield Page(uncompressed, size_in(about, 1), expands)
        begin += length + compressed


def size_in(fields: dict[int, Any], number: int) -> int:
    """Return the field with this number, which is no negative number. Raise `PageError`."""
    value = fields.get(number)
    if not isinstance(value, int) or value < 0:
        raise PageError("a page's header is broken")
    return value


def read_header(descriptor: int, begin: int, end: int) -> tuple[dict[int, Any], int]:
    """Return the header of the page at `begin`, and its length in bytes."""
    most = HEADER_BYTES
    while True:
        content = os.pread(descriptor, min(most, end - begin), begin)
        reader = CompactReader(content)
        try:
            return reader.struct(), reader.position
        except IndexError:
            if len(content) < most or most >= LONGEST_HEADER:
                raise PageError("a page's header is cut") from None
            most *= 16


class CompactReader:
    """Reads Thrift's compact protocol. Raises `IndexError` where the content ends, `PageError` if it is broken."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.position = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Return the values of a struct by the numbers of their fields; lists are skipped."""
        if depth > DEEPEST:
            raise PageError("a page's header is nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while kind := self._byte():
            delta, kind = kind >> 4, kind & 15
            number = number + delta if delta else self._integer()
            fields[number] = self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in BOOLEANS:
            return kind == BOOLEANS[0]
        if kind in INTEGERS:
            return self._integer()
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind in LISTS:
            return self._skip_list(depth)
        lengths: dict[int, Callable[[], int]] = {BYTE: lambda: 1, DOUBLE: lambda: 8, BINARY: self._varint}
        if kind not in lengths:
            raise PageError("a page's header is broken")
        return self._skip(lengths[kind]())

    def _skip_list(self, depth: int) -> None:
        about = self._byte()
        size, kind = about >> 4, about & 15
        for _ in range(self._varint() if size == 15 else size):
            if kind in BOOLEANS:
                self._skip(1)
            else:
                self._value(kind, depth)

    def _skip(self, size: int) -> None:
        self.position += size
        if self.position > len(self._content):
            raise IndexError

    def _byte(self) -> int:
        value = self._content[self.position]
        self.position += 1
        return value

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            part = self._byte()
            value |= (part & 127) << shift
            if part < 128:
                return value
        raise PageError("a page's header is broken")

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
