"""Headers of a tar archive, each a block of 512 bytes, and the extended headers before them."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from typing import NamedTuple

BLOCK_BYTES = 512
PAX_RECORD = re.compile(rb"(\d{1,7}) ([^=\n]+)=")
OCTAL = re.compile(rb" *([0-7]*) *")
CHECKSUM = slice(148, 156)
SPACES = 8 * ord(" ")  # what the field of the checksum counts as
POSITIVE, NEGATIVE = 0o200, 0o377  # first bytes of a number that is not octal, but binary


class Header(NamedTuple):
    """What a header says of its member: its name, the size of its content in bytes, and its type."""

    name: str
    size: int
    type: bytes


@dataclass(slots=True)
class Extension:
    """What the headers before that of a member say about it."""

    name: str | None = None
    pax_name: str | None = None  # takes precedence
    size: int | None = None
    is_sparse: bool = False


def parse_header(block: bytes) -> Header:
    """Return what a header says. Raise `ValueError`, which says what is wrong with it.

    It is read as by `tarfile.TarInfo.frombuf`, which takes five times as long, since it also reads what nobody needs
    here, such as owners, and rejects the archive if one of these fields is broken.
    """
    if number(block[CHECKSUM]) not in checksums(block):
        raise ValueError("wrong checksum")
    size = number(block[124:136])
    if size < 0:
        raise ValueError("a negative size")
    name, kind = text(block[:100]), block[156:157]
    if kind == tarfile.AREGTYPE and name.endswith("/"):  # as before there was a type for folders
        kind = tarfile.DIRTYPE
    if block[345] and kind not in tarfile.GNU_TYPES:
        name = f"{text(block[345:500])}/{name}"
    return Header(name, size, kind)


def checksums(block: bytes) -> tuple[int, int]:
    """Return the sums of a header's bytes, as unsigned and, as some old programs wrote them, as signed numbers."""
    rest = block[: CHECKSUM.start] + block[CHECKSUM.stop :]
    unsigned = SPACES + sum(rest)
    return unsigned, unsigned if rest.isascii() else unsigned - 256 * sum(byte > 127 for byte in rest)


def number(field: bytes) -> int:
    """Return the number in a field: octal digits or, if it begins with a certain byte, binary. Raise `ValueError`."""
    if field[0] in (POSITIVE, NEGATIVE):
        return int.from_bytes(field[1:], "big") - (1 << 8 * len(field) - 8 if field[0] == NEGATIVE else 0)
    digits = OCTAL.fullmatch(field.partition(b"\0")[0])
    if not digits:
        raise ValueError("a field that is no number")
    return int(digits[1] or b"0", 8)


def text(field: bytes) -> str:
    """Return the text in a field, which may end with a NUL. Bytes that are not UTF-8 become `\\xff`."""
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def read_pax(extension: Extension, content: bytes) -> None:
    """Add what an extended header in the pax format says about the next member. Raise `ValueError` if it is broken.

    A record is `LENGTH KEY=VALUE` and a line break; its length counts all of that.
    """
    position = 0
    while record := PAX_RECORD.match(content, position):
        end = position + int(record[1])
        if end > len(content) or end <= record.end() or content[end - 1 : end] != b"\n":
            raise ValueError("a broken extended header")
        value = content[record.end() : end - 1]
        if record[2] in (b"path", b"GNU.sparse.name"):
            extension.pax_name = text(value)
        elif record[2] == b"size":
            if not re.fullmatch(rb"\d{1,20}", value):
                raise ValueError("a broken size in an extended header")
            extension.size = int(value)
        extension.is_sparse |= record[2].startswith(b"GNU.sparse.")
        position = end
    if content[position:].strip(b"\0"):
        raise ValueError("a broken extended header")
