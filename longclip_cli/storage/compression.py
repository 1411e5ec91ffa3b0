"""Compressed files: their readers by suffix, and the tools that decompress them by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from typing import BinaryIO, cast

from longclip_cli.errors import InputError

MAGIC_NUMBERS = {b"\x1f\x8b": "zcat", b"BZh": "bzcat", b"\xfd7zXZ": "xzcat", b"\x28\xb5\x2f\xfd": "zstdcat"}
BUFFER_BYTES = 128 * 2**10  # decompressed


def compressor(content: bytes) -> str | None:
    """Return the tool that decompresses what begins with `content`; `None` if it is not compressed."""
    return next((tool for magic, tool in MAGIC_NUMBERS.items() if content.startswith(magic)), None)


def open_zstd(file: BinaryIO) -> BinaryIO:
    """Return the content of a `.zst` file. Raise `InputError` if the zstandard package is not installed."""
    try:
        from longclip_cli.storage.zstd import ZstdFile
    except ImportError as error:
        raise InputError(
            "reading .zst needs the zstandard package: pip install 'longclip-cli[zst]' (or pipe through zstdcat)"
        ) from error
    return io.BufferedReader(ZstdFile(file), buffer_size=BUFFER_BYTES)


DECOMPRESSORS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": lambda file: cast(BinaryIO, gzip.GzipFile(fileobj=file)),
    ".bz2": lambda file: cast(BinaryIO, bz2.BZ2File(file)),
    ".xz": lambda file: cast(BinaryIO, lzma.LZMAFile(file)),  # noqa: SIM115
    ".zst": open_zstd,
}
