"""Comma- and tab-separated text: where a record ends, and its fields, which keep their bytes.

Quotation marks are read as by Python's csv module and pandas: they count at the start of a field only, and are doubled
inside quotes. The csv module itself would limit fields to 131,072 characters, for the whole process.
"""

from __future__ import annotations

import re

UTF8_BOM = b"\xef\xbb\xbf"
LINE_END = b"\r\n"
QUOTED = rb'"[^"]*+(?:""[^"]*+)*+"'
TO_CLOSING_QUOTE = re.compile(rb'[^"]*+(?:""[^"]*+)*+"')


class Dialect:
    """What separates fields: an ASCII character that has no meaning in patterns.

    All patterns are possessive, so that each byte is looked at a few times at most.
    """

    def __init__(self, delimiter: bytes) -> None:
        self.delimiter = delimiter
        unquoted = rb"[^%b]*+" % delimiter
        field = rb'(?:%b%b|(?!")%b)' % (QUOTED, unquoted, unquoted)
        strict = rb'(?:%b(?=%b|\Z)|(?!")%b)' % (QUOTED, delimiter, unquoted)
        self._field = re.compile(field)
        self._fields = re.compile(rb"(?:%b%b)*+%b\Z" % (field, delimiter, field))
        self._well_formed = re.compile(rb"(?:%b%b)*+%b\Z" % (strict, delimiter, strict))
        self._after_quote = re.compile(rb"%b(?:%b%b)*+\Z" % (unquoted, delimiter, field))
        self._special = re.compile(rb'[%b"\r\n]' % delimiter)
        self.blanks = b" \t\r\n".replace(delimiter, b"")

    def leaves_open(self, line: bytes, *, is_open: bool = False) -> bool:
        """Return whether a quoted field goes on after this line. `is_open` says that one went on before it."""
        if not is_open:
            return b'"' in line and not self._fields.match(line)
        closed = TO_CLOSING_QUOTE.match(line)
        return not (closed and self._after_quote.match(line, closed.end()))

    def is_well_formed(self, body: bytes) -> bool:
        """Return whether each closing quotation mark of a record ends its field."""
        return b'"' not in body or bool(self._well_formed.match(body))

    def split(self, body: bytes, most: int) -> list[bytes]:
        """Return the fields of a record as they are, at most so many; one more holds all that follows them."""
        if b'"' not in body:
            return body.split(self.delimiter, most)
        fields: list[bytes] = []
        position = 0
        while len(fields) < most:
            found = self._field.match(body, position)
            assert found, "the record has no open quotation mark"
            fields.append(found[0])
            if found.end() == len(body):
                return fields
            position = found.end() + 1
        return [*fields, body[position:]]

    def quote(self, value: bytes) -> bytes:
        """Return a value as a field has it: in quotation marks if it needs them."""
        return b'"%b"' % value.replace(b'"', b'""') if self._special.search(value) else value

    def unquote(self, field: bytes) -> bytes:
        """Return the value of a field. What follows a closing quotation mark is a part of it."""
        if not field.startswith(b'"'):
            return field
        closed = TO_CLOSING_QUOTE.match(field, 1)
        assert closed, "the field has no open quotation mark"
        return closed[0][:-1].replace(b'""', b'"') + field[closed.end() :]


def split_end(content: bytes) -> tuple[bytes, bytes]:
    """Return a record without its line end, and the line end, which may be missing."""
    body = content.rstrip(LINE_END)
    return body, content[len(body) :]
