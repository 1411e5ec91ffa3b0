"""The records of an input of comma- or tab-separated text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from longclip_cli.errors import InputError
from longclip_cli.formats.dialects import UTF8_BOM, Dialect
from longclip_cli.formats.lines import BLANK_BYTES, MAX_LINE_BYTES, reject_compressed
from longclip_cli.storage.source import UNREADABLE, Input


@dataclass(frozen=True, slots=True)
class TextRecord:
    """One record of the input, of one line or more.

    `number` is that of its first line, from 1, blank lines included. `content` is as read, with its line end. `offset`
    is how many bytes of the file (compressed, if it is) had been read after this record.
    """

    number: int
    content: bytes
    offset: int

    @property
    def is_blank(self) -> bool:
        """Whether this is no record, but a sign that a long record or run of blank lines is being read."""
        return not self.content


def read_records(source: Input, dialect: Dialect) -> Iterator[TextRecord]:
    """Yield the records that are not blank, each as soon as it has arrived.

    A blank one is yielded for each `BLANK_BYTES` of a long record or run of blank lines. The thread that reads closes
    the file at the end. Raise `InputError` if the input becomes unreadable, or a record is too long or has no end.
    """
    number = blank = 0
    with source.file:
        try:
            while line := source.stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                first, content, waiting = number, bytearray(line), 0
                if number == 1:
                    reject_compressed(source, line)
                    line = line.removeprefix(UTF8_BOM)
                is_open = dialect.leaves_open(line)
                while is_open and len(content) <= MAX_LINE_BYTES:
                    if not (line := source.stream.readline(MAX_LINE_BYTES + 1 - len(content))):
                        raise unclosed(source, first, number)
                    number += 1
                    content += line
                    is_open = dialect.leaves_open(line, is_open=True)
                    if len(content) // BLANK_BYTES > waiting:
                        waiting = len(content) // BLANK_BYTES
                        yield TextRecord(number, b"", 0)
                if len(content) > MAX_LINE_BYTES:
                    raise too_long(source, first)
                blank = 0 if content.strip(dialect.blanks) else blank + len(content)
                if not blank:
                    yield TextRecord(first, bytes(content), 0 if source.is_live else source.file.tell())
                elif blank > BLANK_BYTES:
                    blank = 0
                    yield TextRecord(first, b"", 0)
        except UNREADABLE as error:
            raise InputError(f"{source.name}: unreadable after line {number}: {error}") from error


def unclosed(source: Input, first: int, last: int) -> InputError:
    """Return the error of an input that ends inside of quotes."""
    lines = f"line {first}" if first == last else f"lines {first} to {last}, the last one"
    return InputError(
        f"{source.name}: the record in {lines} lacks a closing quotation mark; close the quotes, or write a quotation "
        'mark that begins a field as """'
    )


def too_long(source: Input, first: int) -> InputError:
    """Return the error of a record that would not be held whole."""
    return InputError(
        f"{source.name}: the record that begins in line {first} has more than {MAX_LINE_BYTES} bytes; "
        "does it lack a closing quotation mark?"
    )
