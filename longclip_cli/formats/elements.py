"""The elements of an input that is one JSON array."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain

from longclip_cli.errors import InputError
from longclip_cli.formats.lines import BLANK_BYTES, MAX_LINE_BYTES, MOST_SNIFFED, reject_compressed
from longclip_cli.formats.sniffing import seems_to_be
from longclip_cli.storage.source import UNREADABLE, Input

BLOCK_BYTES = 128 * 2**10
WHITE_SPACE = b" \t\r\n"  # as JSON has it
UTF8_BOM = b"\xef\xbb\xbf"
# What may precede a bracket, or a bracket or comma, in bytes without escaped quotation marks. Both patterns always
# match, so each byte is looked at a few times at most. Brackets that hold no others are skipped with their content:
# that nearly halves the time of a typical row.
NO_BRACKETS = rb'[^"{}\[\]]*+(?:"[^"]*+"[^"{}\[\]]*+)*'
BEFORE_BRACKET = re.compile(rb'[^"{}\[\]]*+(?:(?:"[^"]*+"|[{\[]%b[}\]])[^"{}\[\]]*+)*' % NO_BRACKETS)
BEFORE_BRACKET_OR_COMMA = re.compile(rb'[^"{}\[\],]*+(?:"[^"]*+"[^"{}\[\],]*+)*')
LINE_BREAK = re.compile(rb"[\r\n][ \t\r\n]*+")


@dataclass(frozen=True, slots=True)
class Element:
    """One element of the array.

    `number` counts from 1. `content` is as read, without the white space around it. `offset` is how many bytes of the
    file (compressed, if it is) had been read with the block in which this element ends, and 0 for a pipe.
    """

    number: int
    content: bytes
    offset: int

    @property
    def is_blank(self) -> bool:
        """Whether this is no element, but a sign that a long run of white space is being read after one."""
        return not self.content


class ArrayError(Exception):
    """The array is broken, so that its next element cannot be found."""


def read_elements(source: Input, start: bytes = b"") -> Iterator[Element]:
    """Yield the elements of an array, each as soon as it has arrived, whether or not they are JSON.

    `start` has been read from the stream before. Blank elements, as in `[1,,2]`, are skipped. Of a long run of white
    space, one in `BLANK_BYTES` is yielded, without content.

    The thread that reads closes the file at the end. Raise `InputError` if the input is no array, becomes unreadable,
    or an element is too long.
    """
    number = blank = 0
    with source.file:
        try:
            blocks = read_blocks(source, start)
            splitter = Splitter()
            for block in chain([skip_opening(source, blocks)], blocks):
                offset = 0 if source.is_live else source.file.tell()
                blank += len(block)
                for content in splitter.split(block):
                    number, blank = number + 1, 0
                    yield Element(number, content, offset)
                if splitter.head:
                    blank = 0
                elif blank > BLANK_BYTES:
                    blank = 0
                    yield Element(number, b"", offset)
            splitter.finish()
        except (ArrayError, *UNREADABLE) as error:
            raise InputError(f"{source.name}: unreadable after element {number}: {error}") from error


def read_blocks(source: Input, start: bytes) -> Iterator[bytes]:
    """Yield what was read before, and then what arrives. Never waits for a whole block."""
    read = getattr(source.stream, "read1", source.stream.read)
    if start:
        yield start
    while block := read(BLOCK_BYTES):
        yield block


def skip_opening(source: Input, blocks: Iterator[bytes]) -> bytes:
    """Return what follows the opening bracket in its block. Raise `InputError` if the input begins otherwise."""
    start = b""
    for block in blocks:
        start = (start + block).lstrip(WHITE_SPACE).removeprefix(UTF8_BOM).lstrip(WHITE_SPACE)
        if not UTF8_BOM.startswith(start):  # which may be empty, or a byte order mark of which more is to come
            break
    if start.startswith(b"["):
        return start[1:]
    reject_compressed(source, start)
    if not start:
        raise InputError(f"{source.name}: empty, not a JSON array")
    if start.startswith(b"{"):
        raise InputError(
            f"{source.name}: begins with an object, not with a JSON array; if it has one object a line, "
            "use --input-format jsonl, and if the array is inside the object, extract it with jq .FIELD"
        )
    raise InputError(f"{source.name}: not a JSON array; it {seems_to_be(start[:MOST_SNIFFED])}")


@dataclass(slots=True)
class Splitter:
    """Cuts what follows an array's opening bracket into elements, block by block.

    `depth` counts the open brackets. `head` is what earlier blocks hold of an element. `escape` is a backslash at the
    end of the last block, which belongs to what comes next.
    """

    depth: int = 1
    head: bytearray = field(default_factory=bytearray)
    is_in_string: bool = False
    escape: bytes = b""

    def split(self, block: bytes) -> Iterator[bytes]:
        """Yield the elements that end in this block. Raise `ArrayError`."""
        block, masked = self.mask(block)
        begin = position = 0
        if self.is_in_string:
            position = masked.find(b'"') + 1
            self.is_in_string = not position
            if self.is_in_string:
                self.keep(block)
                return
        while self.depth:
            skipped = BEFORE_BRACKET if self.depth > 1 else BEFORE_BRACKET_OR_COMMA
            position = skipped.match(masked, position).end()  # type: ignore[union-attr] # it may be empty
            mark = masked[position : position + 1]
            position += 1
            if mark == b"{" or mark == b"[":
                self.depth += 1
                continue
            if mark == b"" or mark == b'"':  # the block ends here, or in this string
                self.is_in_string = bool(mark)
                self.keep(block[begin:])
                return
            if mark != b",":
                self.depth -= 1
            if self.depth == 0 and mark == b"}":
                raise ArrayError("'}' where ',' or ']' belongs")
            if self.depth < 2:
                is_own_bracket = self.depth == 1 and mark != b","
                if content := self.take(block[begin : position if is_own_bracket else position - 1]):
                    yield content
                begin = position
        if (block[position:] + self.escape).strip(WHITE_SPACE):
            raise ArrayError("the array has ended, but the input goes on")

    def finish(self) -> None:
        """Raise `ArrayError` if the array has not ended."""
        if self.depth:
            raise ArrayError("the array has no end; was the file cut?")

    def mask(self, block: bytes) -> tuple[bytes, bytes]:
        """Return the bytes to look at now, and the same with escapes replaced, so that each quotation mark counts."""
        block = self.escape + block
        masked = block.replace(rb"\\", b"__").replace(rb"\"", b"__")
        self.escape = b"\\" if masked.endswith(b"\\") else b""
        end = len(block) - len(self.escape)
        return block[:end], masked[:end]

    def keep(self, part: bytes) -> None:
        """Keep what this block holds of an element. Raise `ArrayError` if the element is too long."""
        self.head += part if self.head else part.lstrip(WHITE_SPACE)
        reject_long(self.head)

    def take(self, part: bytes) -> bytes:
        """Return the element that ends with this part; nothing if it is blank. Raise `ArrayError`."""
        if self.head:
            part = bytes(self.head + part)
            self.head.clear()
        content = part.strip(WHITE_SPACE)
        reject_long(content)
        return content


def reject_long(content: bytes | bytearray) -> None:
    """Raise `ArrayError` if an element, or its part, is too long to be held."""
    if len(content) > MAX_LINE_BYTES:
        raise ArrayError(
            f"the next has more than {MAX_LINE_BYTES} bytes; does it lack a closing bracket or quotation mark?"
        )


def one_line(content: bytes) -> bytes:
    """Return an element without line breaks and indentation, the same value if it is JSON.

    A line break in a string, where JSON has none, is removed or becomes a space too.
    """
    if b"\n" not in content and b"\r" not in content:
        return content
    line = LINE_BREAK.sub(b"\n", content)
    for needless, bracket in ((b"[\n", b"["), (b"{\n", b"{"), (b"\n]", b"]"), (b"\n}", b"}")):
        line = line.replace(needless, bracket)
    return line.replace(b"\n", b" ")
