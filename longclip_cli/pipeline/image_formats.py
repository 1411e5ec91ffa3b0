"""Which image formats are read, what decoding them takes, and what is checked of a file before Pillow decodes it."""

from __future__ import annotations

import ctypes
import logging
import struct
import warnings
import zlib
from contextlib import suppress
from functools import cache
from typing import BinaryIO

from PIL import Image, ImageFile, _imaging

from longclip_cli.pipeline.jpeg_scans import check_scans

# Every format that is read, in the order in which Pillow tries them: those with a weak signature or none come last.
# All are decoded in C, but for what `check_decoder` limits. The number is the most bytes of memory that a pixel
# takes while it is decoded, measured with Pillow 13; Pillow itself stores 4.
FORMATS = {
    "JPEG": 4,
    "MPO": 4,  # JPEG with further pictures, from phones and stereo cameras: Pillow opens it as JPEG
    "PNG": 4,  # also APNG, whose default picture is read
    "GIF": 4,
    "WEBP": 18,
    "AVIF": 10,
    "TIFF": 8,
    "BMP": 4,
    "DIB": 4,  # BMP without its file header
    "PPM": 4,  # binary PBM, PGM and PPM
    "JPEG2000": 20,
    "ICO": 4,
    "PSD": 4,  # the merged picture
    "QOI": 12,
    "SGI": 4,
    "SUN": 4,
    "PCX": 4,
    "TGA": 4,
}
BYTES_PER_PIXEL = 4  # Pillow's, also of RGB
PROGRESSIVE_JPEG = 10  # the coefficients of the whole picture are kept
PIXELS_IN_PYTHON = 4_000_000  # a decoder in Python takes up to 1.4 us a pixel
FILE_BYTES_PER_PIXEL = 8  # more than a file needs: the rest may be codes that draw nothing
ICON_SIDE = 1024  # pixels: Pillow decodes an icon when it opens it
ICON_SIGNATURE = b"\0\0\1\0"
JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
STRIP_BYTES = 2**20


def configure_pillow(max_pixels: int) -> None:
    """Set Pillow's pixel limit and silence its messages, for the whole process.

    Pillow and libtiff write to standard error without naming the file. The row's error says what is wrong.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of broken EXIF, for example
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
    # Pillow has no setting for it. Where libtiff is linked into Pillow, its functions are not found.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


@cache
def readable_formats() -> tuple[str, ...]:
    """Return the names of the formats in `FORMATS` that this Pillow reads."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def decoding_bytes(image: Image.Image, copies: int = 0) -> int:
    """Return the bytes of memory that Pillow takes at its peak to decode an image and convert it to RGB.

    `copies` is the bytes per pixel that are held besides, once it is decoded.
    """
    peak = PROGRESSIVE_JPEG if "progressive" in image.info else FORMATS.get(image.format or "", 4)
    decoded = BYTES_PER_PIXEL * (1 if image.mode == "RGB" else 2)
    return image.width * image.height * max(peak, decoded + copies)


def check_content(file: BinaryIO) -> None:
    """Check what Pillow does not: checksums of a PNG, scans of a JPEG, and sizes of the pictures in an icon.

    Raises `ValueError` for what is wrong. The file's position is at its start before and after.
    """
    signature = file.read(len(PNG_SIGNATURE))
    if signature == PNG_SIGNATURE:
        check_png(file)
    elif signature.startswith(JPEG_SIGNATURE):
        check_scans(file)
    elif signature.startswith(ICON_SIGNATURE):
        check_icon(file)
    file.seek(0)


def check_png(file: BinaryIO) -> None:
    """Raise `ValueError` unless the chunks behind a PNG's signature carry the right checksums, up to its end chunk."""
    while True:
        head = file.read(8)
        if len(head) < 8:
            raise ValueError("truncated: it has no end chunk")
        length, name = struct.unpack(">I4s", head)
        if name == b"IEND":
            return
        checksum = zlib.crc32(name)
        while length and (strip := file.read(min(length, STRIP_BYTES))):
            checksum = zlib.crc32(strip, checksum)
            length -= len(strip)
        if file.read(4) != checksum.to_bytes(4, "big"):
            raise ValueError(f"{'truncated' if length else 'wrong checksum'} in chunk {name.decode('latin-1')!r}")


def check_icon(file: BinaryIO) -> None:
    """Raise `ValueError` if an icon holds a picture of more than `ICON_SIDE` pixels in width or height."""
    file.seek(len(ICON_SIGNATURE))
    entries = file.read(16 * int.from_bytes(file.read(2), "little"))
    for (offset,) in struct.iter_unpack("<12xI", entries[: len(entries) // 16 * 16]):
        file.seek(offset)
        head = file.read(24).ljust(24, b"\0")
        is_png = head.startswith(PNG_SIGNATURE)
        # The height of a bitmap counts its mask, and is negative if its lowest row comes last.
        width, height = struct.unpack(">16xII", head) if is_png else struct.unpack("<4xii12x", head)
        if abs(width) > ICON_SIDE or abs(height) > (1 if is_png else 2) * ICON_SIDE:
            raise ValueError(f"an icon with a picture of {width} x {height} pixels")


def check_decoder(image: ImageFile.ImageFile, file_bytes: int) -> None:
    """Raise `ValueError` for an image that Pillow would decode in Python, and slowly. No pixel is decoded."""
    decoders = {tile[0] for tile in image.tile or ()}
    if "ppm_plain" in decoders:  # comments take it a time that grows with the square of their number
        raise ValueError("ASCII pixels are not read; convert it to PNG")
    is_slow = bool(decoders & Image.DECODERS.keys() - {"SGI16"})
    if is_slow and max(image.width * image.height, file_bytes // FILE_BYTES_PER_PIXEL) > PIXELS_IN_PYTHON:
        raise ValueError(f"of more than {PIXELS_IN_PYTHON} pixels and slow to decode; convert it to PNG")
