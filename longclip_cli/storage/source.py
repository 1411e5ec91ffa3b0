"""Standard input, files and compressed files as lines of bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import select
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from longclip_cli.errors import InputError
from longclip_cli.formats.sniffing import seems_to_be
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.streams import STDIN, descriptor_of, is_inherited

MAX_LINE_BYTES = 64 * 2**20  # a longer line is no JSONL, and would have to be held whole
MAGIC_NUMBERS = {b"\x1f\x8b": "zcat", b"BZh": "bzcat", b"\xfd7zXZ": "xzcat", b"\x28\xb5\x2f\xfd": "zstdcat"}
MOST_SNIFFED = 4096
BLANK_BYTES = 2**20  # after so many one blank line is given out, so that its reader can do something else
DECOMPRESSED_BUFFER_BYTES = 128 * 2**10


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input.

    `number` counts from 1, blank lines included. `content` is as read, line end and all. `offset` is how
    many bytes of the file, compressed if it is, had been read when this line was.
    """

    number: int
    content: bytes
    offset: int

    @property
    def is_blank(self) -> bool:
        """Whether this is no row, but says that a long run of blank lines is being read."""
        return not self.content


@dataclass(frozen=True)
class Input:
    """An opened input.

    `file` is as it lies on the disk, `stream` what decompressing it gives. `size` is in bytes, `None`
    where it is not known (a pipe). `identity` tells this input from others: a file's path, size and time of change.
    """

    name: str
    file: BinaryIO
    stream: BinaryIO
    size: int | None
    identity: str

    @property
    def is_live(self) -> bool:
        """Whether a line may be long in coming, because its writer has yet to write it."""
        return self.size is None

    def has_arrived(self) -> bool:
        """Whether there is something to read now, or the end, rather than a writer to wait for."""
        return not self.is_live or bool(select.select([self.file], [], [], 0)[0])

    def lines(self) -> Iterator[Line]:
        """Yield the lines that are not blank, each as soon as it has arrived; once.

        Of a long run of blank lines one in `BLANK_BYTES` is given out, with no content.

        The file is closed by whoever reads it, since closing it elsewhere would wait for a line that is
        being waited for. Raises `InputError` if the input becomes unreadable.
        """
        number = blank = 0
        with self.file:
            try:
                while content := self.stream.readline(MAX_LINE_BYTES + 1):
                    number += 1
                    if len(content) > MAX_LINE_BYTES:
                        raise InputError(
                            f"{self.name}: line {number} has more than {MAX_LINE_BYTES} bytes; "
                            f"it {seems_to_be(content[:MOST_SNIFFED])}"
                        )
                    if number == 1 and (tool := compressor(content)):
                        raise InputError(f"{self.name}: is compressed; pipe it through {tool}")
                    blank = blank + len(content) if content.isspace() else 0
                    if blank > BLANK_BYTES:
                        content, blank = b"", 0
                    if not blank:
                        yield Line(number, content, 0 if self.is_live else self.file.tell())
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise InputError(f"{self.name}: unreadable after line {number}: {error}") from error


def open_input(path: str) -> Input:
    """Opens a file, decompressed by its suffix, or standard input for `-`.

    Raises `InputError`.
    """
    is_stdin = path == STANDARD_STREAM
    name = "standard input" if is_stdin else path
    descriptor = STDIN if is_stdin else descriptor_of(path)
    if descriptor is not None and not is_inherited(descriptor):
        raise InputError(f"cannot read {name}: it is closed; give a file as INPUT")
    decompress = None if is_stdin else DECOMPRESSORS.get(Path(path).suffix.lower())
    try:
        # Standard input is opened anew: when the interpreter exits it takes the lock of sys.stdin,
        # which a thread that waits for a line would hold.
        file = open(0 if is_stdin else path, "rb", closefd=not is_stdin)  # noqa: SIM115
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    os.set_blocking(file.fileno(), True)  # a parent may hand out a pipe where "nothing yet" looks like the end
    status = os.fstat(file.fileno())
    stream = decompress(file) if decompress else file
    if not stat.S_ISREG(status.st_mode):
        return Input(name, file, stream, None, f"{name}, a pipe")
    where = name if is_stdin else os.path.realpath(path)
    changed = datetime.fromtimestamp(status.st_mtime)
    return Input(name, file, stream, status.st_size, f"{where} ({status.st_size} bytes, changed {changed})")


def compressor(content: bytes) -> str | None:
    """The tool that decompresses what begins so; `None` for what is not compressed."""
    return next((tool for magic, tool in MAGIC_NUMBERS.items() if content.startswith(magic)), None)


def open_zstd(file: BinaryIO) -> BinaryIO:
    """The content of a `.zst` file."""
    try:
        from longclip_cli.storage.zstd import ZstdFile
    except ImportError as error:
        raise InputError(
            "reading .zst needs the zstandard package: pip install 'longclip-cli[zst]' (or pipe through zstdcat)"
        ) from error
    return io.BufferedReader(ZstdFile(file), buffer_size=DECOMPRESSED_BUFFER_BYTES)


DECOMPRESSORS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": lambda file: cast(BinaryIO, gzip.GzipFile(fileobj=file)),
    ".bz2": lambda file: cast(BinaryIO, bz2.BZ2File(file)),
    ".xz": lambda file: cast(BinaryIO, lzma.LZMAFile(file)),  # noqa: SIM115
    ".zst": open_zstd,
}
