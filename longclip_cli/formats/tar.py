"""The members of a tar archive, read in one pass and in bounded memory."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, NoReturn

from longclip_cli.formats.tar_header import BLOCK_BYTES, Extension, Header, parse_header, read_pax, text
from longclip_cli.rows import Mark

SKIP_BYTES = 2**20  # of content that nobody wants, at a time
PAUSE_BYTES = 16 * 2**20  # of the stream: one pause in so many
MOST_ZEROS = 64 * 2**20  # bytes after an archive; writers round its size up to a few KiB
MOST_NAME_BYTES = 2**16
MOST_PAX_BYTES = 2**20  # of the extended header of one member
LONG_NAME, LONG_LINK, SPARSE = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE
PAX_TYPES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
PROBLEMS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    SPARSE: "a sparse file",
}
CONTINUED, CONTINUED_AGAIN = 482, 504  # where GNU's sparse header, and each block after it, says that one more follows
WITHOUT_CONTENT = {*PROBLEMS, tarfile.DIRTYPE} - {SPARSE}  # whatever size their headers say, as tarfile has it


class TarError(Exception):
    """The archive is broken, so that its next member cannot be found."""


class NoTarError(TarError):
    """The stream does not begin with a tar header."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive. Its name is only a label: no file of this name is ever opened.

    `size` is in bytes. `problem` says what the member is if it is no regular file, and has no content then.
    """

    name: str
    size: int
    problem: str | None = None


class TarReader:
    """Reads the members of a stream that holds one archive, or several one after another.

    `tarfile.TarFile` is not used: at a broken header it stops as if the archive had ended there, it reads extended
    headers of any size, and it keeps all members.

    Iterating raises `TarError` if the archive is broken or has no end, and what reading the stream raises. Global
    extended headers are skipped.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._position = 0  # in the stream, in bytes
        self._paused = 0  # the position at the last pause
        self._content = self._padding = 0  # of the current member: bytes that are not read yet

    def __iter__(self) -> Iterator[Member | Literal[Mark.PAUSE, Mark.END]]:
        """Yield the members but for folders, `END` after each archive, and `PAUSE` from time to time."""
        extension = Extension()
        zeros = 0
        while block := self._read_block():
            if self._is_pause_due():
                yield Mark.PAUSE
            if not block.strip(b"\0"):
                if not zeros:
                    check_used(extension)
                    yield Mark.END
                zeros += len(block)
                if zeros > MOST_ZEROS:
                    raise TarError(f"more than {MOST_ZEROS} zeros after the archive")
                continue
            zeros = 0
            header = self._parse(block)
            if not self._extend(extension, header):
                yield from self._members(header, extension)
                extension = Extension()
            yield from self._skip()
        check_used(extension)
        if not self._position:
            raise NoTarError("it is empty")
        if not zeros:
            raise TarError("the archive has no end; was the file cut?")

    def read(self) -> bytes:
        """Return the content of the member that was yielded last, if it was not read. Raise `TarError` if it is cut."""
        size, self._content = self._content, 0
        return self._read_whole(size)

    def _read_block(self) -> bytes:
        """Return the next block; nothing at the end of the stream."""
        block = self._read(BLOCK_BYTES)
        if len(block) < BLOCK_BYTES and block.strip(b"\0"):
            self._fail_at(len(block), "it is cut")
        return block

    def _read(self, size: int) -> bytes:
        """Return as many bytes, or fewer at the end of the stream."""
        content = self._stream.read(size)
        while len(content) < size and (more := self._stream.read(size - len(content))):
            content += more
        self._position += len(content)
        return content

    def _read_whole(self, size: int) -> bytes:
        content = self._read(size)
        if len(content) < size:
            raise TarError("cut within a member; is the file complete?")
        return content

    def _skip(self) -> Iterator[Literal[Mark.PAUSE]]:
        """Skip the rest of the current member."""
        left, self._content, self._padding = self._content + self._padding, 0, 0
        while left:
            left -= len(self._read_whole(min(left, SKIP_BYTES)))
            if self._is_pause_due():
                yield Mark.PAUSE

    def _is_pause_due(self) -> bool:
        if self._position - self._paused < PAUSE_BYTES:
            return False
        self._paused = self._position
        return True

    def _parse(self, block: bytes) -> Header:
        """Return the header in a block, and know how long the content after it is."""
        try:
            header = parse_header(block)
        except ValueError as error:
            self._fail_at(BLOCK_BYTES, str(error))
        if header.type == SPARSE:
            is_map_continued = block[CONTINUED]
            while is_map_continued:
                is_map_continued = self._read_whole(BLOCK_BYTES)[CONTINUED_AGAIN]
        self._expect(header, header.size)
        return header

    def _fail_at(self, size: int, problem: str) -> NoReturn:
        """Raise the error of a header of so many bytes, which were read last."""
        start = self._position - size
        raise (TarError if start else NoTarError)(f"no tar header at byte {start}: {problem}")

    def _expect(self, header: Header, size: int) -> None:
        """Expect content of so many bytes, unless members of this type have none, whatever their headers say."""
        self._content = 0 if header.type in WITHOUT_CONTENT else size
        self._padding = -self._content % BLOCK_BYTES

    def _extend(self, extension: Extension, header: Header) -> bool:
        """Add what a header says about the next member. Return whether it is such a header, and no member's own."""
        if header.type == LONG_NAME:
            extension.name = text(self._read_bounded(MOST_NAME_BYTES))
        elif header.type in PAX_TYPES:
            try:
                read_pax(extension, self._read_bounded(MOST_PAX_BYTES))
            except ValueError as error:
                raise TarError(str(error)) from None
        else:
            return header.type in (LONG_LINK, tarfile.XGLTYPE)
        return True

    def _read_bounded(self, most: int) -> bytes:
        if self._content > most:
            raise TarError(f"an extended header of {self._content} bytes")
        return self.read()

    def _members(self, header: Header, extension: Extension) -> Iterator[Member]:
        """Yield the member with this header, unless it is a folder."""
        if extension.size is not None:
            self._expect(header, extension.size)
        problem = PROBLEMS[SPARSE] if extension.is_sparse else PROBLEMS.get(header.type)
        if header.type != tarfile.DIRTYPE:
            is_unknown = not problem and header.type not in tarfile.REGULAR_TYPES
            name = extension.pax_name or extension.name or header.name
            yield Member(name, self._content, "of an unknown type" if is_unknown else problem)


def check_used(extension: Extension) -> None:
    """Raise `TarError` if what was said about the next member is said about none."""
    if extension != Extension():
        raise TarError("an extended header without a member; was the file cut?")
