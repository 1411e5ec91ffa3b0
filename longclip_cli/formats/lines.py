"""The lines of an input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from longclip_cli.errors import InputError
from longclip_cli.formats.sniffing import seems_to_be
from longclip_cli.storage.compression import compressor
from longclip_cli.storage.source import UNREADABLE, Input

MAX_LINE_BYTES = 64 * 2**20  # a longer line is not JSONL, and would have to be held whole
MOST_SNIFFED = 4096
BLANK_BYTES = 2**20  # one in so many is yielded, so that the caller can do something else


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input.

    `number` counts from 1, blank lines included. `content` is as read, with its line end. `offset` is how
    many bytes of the file (compressed, if it is) had been read after this line.
    """

    number: int
    content: bytes
    offset: int

    @property
    def is_blank(self) -> bool:
        """Whether this is not a row, but a sign that a long run of blank lines is being read."""
        return not self.content


def read_lines(source: Input) -> Iterator[Line]:
    """Yield the lines that are not blank, each as soon as it has arrived.

    Of a long run of blank lines, one in `BLANK_BYTES` is yielded, without content.

    The thread that reads closes the file at the end, since closing it from a second one would wait for the line that is
    being read. Raise `InputError` if the input becomes unreadable or a line is too long.
    """
    number = blank = 0
    with source.file:
        try:
            while content := source.stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(content) > MAX_LINE_BYTES:
                    raise InputError(
                        f"{source.name}: line {number} has more than {MAX_LINE_BYTES} bytes; "
                        f"it {seems_to_be(content[:MOST_SNIFFED])}"
                    )
                if number == 1:
                    reject_compressed(source, content)
                blank = blank + len(content) if content.isspace() else 0
                if blank > BLANK_BYTES:
                    content, blank = b"", 0
                if not blank:
                    yield Line(number, content, 0 if source.is_live else source.file.tell())
        except UNREADABLE as error:
            raise InputError(f"{source.name}: unreadable after line {number}: {error}") from error


def with_end(content: bytes) -> bytes:
    """Return a line or record with a line end, which the last one of a file may lack."""
    return content if content.endswith(b"\n") else content + b"\n"


def reject_compressed(source: Input, start: bytes) -> None:
    """Raise `InputError` if an input begins as compressed files do."""
    if tool := compressor(start):
        raise InputError(f"{source.name}: is compressed; pipe it through {tool}")
