"""Reading `.zst` files; needs the optional zstandard package."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

import zstandard

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

READ_BYTES = 256  # compressed, at a time: four bytes can hold 128 KiB, and all that was read is decompressed at once


class ZstdFile(io.RawIOBase):
    """A zstd file of any number of frames, decompressed as it is read.

    The package's own reader does not notice a truncated file. This one raises `EOFError`, as Python's readers of the
    other formats do, and `OSError` for content that is not zstd.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._is_inside_frame = False
        self._decompressed = memoryview(b"")

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill the buffer with what is decompressed, and return how many bytes that is; 0 at the end of the file."""
        while not self._decompressed:
            packed = self._frame.unused_data or self._file.read(READ_BYTES)
            if not packed and self._is_inside_frame:
                raise EOFError("Compressed file ended before the end-of-stream marker was reached")
            if not packed:
                return 0
            self._decompressed = memoryview(self._decompress(packed))
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._decompressed))
        target[:count], self._decompressed = self._decompressed[:count], self._decompressed[count:]
        return count

    def _decompress(self, packed: bytes) -> bytes:
        if self._frame.eof:
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            content: bytes = self._frame.decompress(packed)
        except zstandard.ZstdError as error:
            raise OSError(str(error)) from error
        self._is_inside_frame = not self._frame.eof
        return content
