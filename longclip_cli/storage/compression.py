"""Compressed files: their readers and writers by suffix, and the tools that decompress them by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from longclip_cli.errors import InputError, LongCLIPError, OutputError

MAGIC_NUMBERS = {b"\x1f\x8b": "zcat", b"BZh": "bzcat", b"\xfd7zXZ": "xzcat", b"\x28\xb5\x2f\xfd": "zstdcat"}
ARCHIVES = {".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz", ".tzst": ".zst"}  # a tar and its compression in one suffix
BUFFER_BYTES = 128 * 2**10  # decompressed


def compressor(content: bytes) -> str | None:
    """Return the tool that decompresses what begins with `content`; `None` if it is not compressed."""
    return next((tool for magic, tool in MAGIC_NUMBERS.items() if content.startswith(magic)), None)


def without_compression(path: str) -> str:
    """Return a file's name without the suffix of a compression."""
    is_archive = Path(path).suffix.lower() in ARCHIVES
    return str(Path(path).with_suffix(".tar" if is_archive else "")) if compression_of(path) else path


def compression_of(path: str) -> str | None:
    """Return the suffix of a compression that a file's name has, in lower case; `None` if it has none."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in DECOMPRESSORS else ARCHIVES.get(suffix)


def open_zstd(file: BinaryIO) -> BinaryIO:
    """Return the content of a `.zst` file. Raise `InputError` if the zstandard package is not installed."""
    try:
        from longclip_cli.storage.zstd import ZstdFile
    except ImportError as error:
        raise missing_zstandard(InputError, "reading .zst", "zstdcat") from error
    return io.BufferedReader(ZstdFile(file), buffer_size=BUFFER_BYTES)


def check_compressor(compression: str | None) -> None:
    """Raise `OutputError` if a compression needs a package that is not installed."""
    if compression:
        COMPRESSORS[compression](io.BytesIO())


def write_zstd(file: BinaryIO) -> BinaryIO:
    """Return a file that compresses into `file`. Raise `OutputError` if the zstandard package is not installed."""
    try:
        import zstandard
    except ImportError as error:
        raise missing_zstandard(OutputError, "writing .zst", "zstd") from error
    return cast(BinaryIO, zstandard.ZstdCompressor().stream_writer(file, closefd=False))


def missing_zstandard(kind: type[LongCLIPError], activity: str, tool: str) -> LongCLIPError:
    """Return the error of what needs the zstandard package."""
    return kind(f"{activity} needs the zstandard package: pip install 'longclip-cli[zst]' (or pipe through {tool})")


DECOMPRESSORS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    ".gz": lambda file: cast(BinaryIO, gzip.GzipFile(fileobj=file)),
    ".bz2": lambda file: cast(BinaryIO, bz2.BZ2File(file)),
    ".xz": lambda file: cast(BinaryIO, lzma.LZMAFile(file)),  # noqa: SIM115
    ".zst": open_zstd,
}
COMPRESSORS: dict[str, Callable[[BinaryIO], BinaryIO]] = {
    # Without a name and a time, the same rows give the same file.
    ".gz": lambda file: cast(BinaryIO, gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)),
    ".bz2": lambda file: cast(BinaryIO, bz2.BZ2File(file, "wb")),
    ".xz": lambda file: cast(BinaryIO, lzma.LZMAFile(file, "wb")),  # noqa: SIM115
    ".zst": write_zstd,
}
