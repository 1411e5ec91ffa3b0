"""Thrift's compact protocol, in which Parquet describes its files and pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

DEEPEST = 10
BOOLEANS, BYTE, INTEGERS, DOUBLE, BINARY, LISTS, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12


class ThriftError(Exception):
    """The content is no valid Thrift, or lacks what belongs there."""


class CompactReader:
    """Reads the structs of some content. Raises `IndexError` where the content ends, `ThriftError` if it is broken."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.position = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Return the values of a struct by the numbers of their fields."""
        return {number: self.value(kind, depth) for number, kind in self.fields()}

    def fields(self) -> Iterator[tuple[int, int]]:
        """Yield the number and the type of each field of a struct; its value has to be read before the next field."""
        number = 0
        while byte := self._byte():
            delta, kind = byte >> 4, byte & 15
            number = number + delta if delta else self._integer()
            yield number, kind

    def value(self, kind: int, depth: int = 0) -> Any:
        """Return a value of this type; single bytes and floating-point numbers, which nobody needs, are `None`."""
        if kind in BOOLEANS:
            return kind == BOOLEANS[0]
        if kind in INTEGERS:
            return self._integer()
        if kind == BINARY:
            return self._take(self._varint())
        if kind == STRUCT:
            if depth == DEEPEST:
                raise ThriftError("nested too deeply")
            return self.struct(depth + 1)
        if kind in LISTS:
            return list(self.elements(depth))
        if kind not in (BYTE, DOUBLE):
            raise ThriftError("an unknown type of value")
        self._take(1 if kind == BYTE else 8)
        return None

    def elements(self, depth: int = 0) -> Iterator[Any]:
        """Yield the elements of a list."""
        if depth == DEEPEST:
            raise ThriftError("nested too deeply")
        about = self._byte()
        size, kind = about >> 4, about & 15
        for _ in range(self._varint() if size == 15 else size):
            yield self._byte() if kind in BOOLEANS else self.value(kind, depth + 1)

    def _take(self, size: int) -> bytes:
        begin = self.position
        self.position += size
        if self.position > len(self._content):
            raise IndexError
        return self._content[begin : self.position]

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
        raise ThriftError("a number is too long")

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


def size_in(fields: dict[int, Any], number: int) -> int:
    """Return the field with this number, an integer that is not negative. Raise `ThriftError`."""
    value = fields.get(number)
    if not isinstance(value, int) or value < 0:
        raise ThriftError("a size is missing or negative")
    return value
