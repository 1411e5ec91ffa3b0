"""Inputs as bytes: standard input, files and compressed files."""

from __future__ import annotations

import lzma
import os
import select
import stat
import zlib
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from longclip_cli.errors import InputError
from longclip_cli.options import STANDARD_STREAM
from longclip_cli.storage.compression import DECOMPRESSORS, compression_of
from longclip_cli.storage.streams import STDIN, descriptor_of, is_inherited

PEEKED = 4096  # bytes to look at, if so many have arrived
UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)  # what reading a file, compressed or not, may raise


@dataclass(frozen=True)
class Input:
    """An opened input.

    `file` holds the bytes on the disk, `stream` the decompressed ones. `size` is in bytes, `None` if it is not known
    (a pipe). `identity` changes when the input does: a file's path, size and time of change. `path` leads to a file
    that can be opened again; it has no links.
    """

    name: str
    file: BinaryIO
    stream: BinaryIO
    size: int | None
    identity: str
    path: str | None = None

    @property
    def is_live(self) -> bool:
        """Whether reading may have to wait for a program that writes the input."""
        return self.size is None

    def peek(self) -> bytes:
        """Return the first bytes that will be read, at least one unless the input is empty; may wait for them.

        Blanks that arrive alone from a pipe are dropped. Raise `InputError` if they cannot be read or decompressed.
        """
        try:
            content: bytes = self.stream.peek(PEEKED)  # type: ignore[attr-defined]  # each kind of stream has it
            while self.is_live and content and content.isspace():
                self.stream.read(len(content))
                content = self.stream.peek(PEEKED)  # type: ignore[attr-defined]
        except UNREADABLE as error:
            raise InputError(f"{self.name}: unreadable from the start: {error}") from error
        return content

    def has_arrived(self) -> bool:
        """Return whether reading would return at once, with content or the end."""
        return not self.is_live or bool(select.select([self.file], [], [], 0)[0])


def open_input(path: str) -> Input:
    """Open a file, decompressed if its suffix says so, or standard input for `-`. Raise `InputError`."""
    is_stdin = path == STANDARD_STREAM
    name = "standard input" if is_stdin else path
    descriptor = STDIN if is_stdin else descriptor_of(path)
    if descriptor is not None and not is_inherited(descriptor):
        raise InputError(f"cannot read {name}: it is closed; give a file as INPUT")
    decompress = None if is_stdin else DECOMPRESSORS.get(compression_of(path) or "")
    try:
        # Not sys.stdin: when the interpreter exits it takes the lock of sys.stdin, and a thread that waits for a
        # line would hold it.
        file = open(0 if is_stdin else path, "rb", closefd=not is_stdin)  # noqa: SIM115
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    os.set_blocking(file.fileno(), True)  # in a pipe that does not block, "nothing yet" would look like the end
    status = os.fstat(file.fileno())
    stream = decompress(file) if decompress else file
    if not stat.S_ISREG(status.st_mode):
        return Input(name, file, stream, None, f"{name}, a pipe")
    where = name if is_stdin else os.path.realpath(path)
    changed = datetime.fromtimestamp(status.st_mtime)
    identity = f"{where} ({status.st_size} bytes, changed {changed})"
    return Input(name, file, stream, status.st_size, identity, where if descriptor is None else None)
