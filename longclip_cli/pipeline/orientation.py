"""Which way up a photo is, as the camera has noted beside its pixels, and turning it upright."""

from __future__ import annotations

import re
import struct
from contextlib import suppress

from PIL import Image

# How to turn each orientation upright, from the EXIF standard; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
UPRIGHT = 1
FIRST_ON_ITS_SIDE = 5  # from here on, width and height change places
EXIF_PREFIX = b"Exif\0\0"
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
ORIENTATION_TAG, SHORT, LONG = 274, 3, 4
XMP_ORIENTATION = r'tiff:Orientation(?:="|>)([0-9])'


def orientation_of(image: Image.Image) -> int:
    """Return how an image's pixels have to be turned, 1 to 8 as in EXIF; 1 if nothing readable says so.

    Pillow turns TIFF itself. Of a PNG this is only certain once it is loaded, since its EXIF may be behind its pixels.
    """
    if image.format == "TIFF" or not image.info:
        return UPRIGHT
    found = from_exif(exif_of(image)) or from_xmp(image)
    return found if found in TURNS else UPRIGHT


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return an image of this orientation turned upright."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def is_on_its_side(orientation: int) -> bool:
    """Return whether turning an image upright swaps its width and height."""
    return orientation >= FIRST_ON_ITS_SIDE


def exif_of(image: Image.Image) -> bytes:
    """Return the EXIF of an image, empty if it has none."""
    exif = image.info.get("exif")
    profile = image.info.get("Raw profile type exif")  # a text in a PNG: name, length and hexadecimal digits, by line
    if exif is None and isinstance(profile, str):
        with suppress(ValueError):
            return bytes.fromhex("".join(profile.split("\n")[3:]))
    return exif if isinstance(exif, bytes) else b""


def from_exif(exif: bytes) -> int | None:
    """Return the orientation in the first directory of an EXIF, or `None`. Nothing else is read.

    Pillow's reader would copy the values of all tags, and raise for those that are broken.
    """
    exif = exif.removeprefix(EXIF_PREFIX).removeprefix(EXIF_PREFIX)  # some writers repeat it
    order = BYTE_ORDERS.get(exif[:4])
    if order:
        with suppress(struct.error):
            (start,) = struct.unpack_from(f"{order}I", exif, 4)
            (count,) = struct.unpack_from(f"{order}H", exif, start)
            for entry in range(start + 2, start + 2 + 12 * count, 12):
                tag, kind, values = struct.unpack_from(f"{order}HHI", exif, entry)
                if tag == ORIENTATION_TAG and kind in (SHORT, LONG) and values == 1:
                    (value,) = struct.unpack_from(f"{order}{'H' if kind == SHORT else 'I'}", exif, entry + 8)
                    return int(value)
    return None


def from_xmp(image: Image.Image) -> int | None:
    """Return the orientation in an image's XMP, or `None`. As in Pillow, EXIF comes first."""
    for key in ("XML:com.adobe.xmp", "xmp"):
        xmp = image.info.get(key)
        if isinstance(xmp, bytes):
            xmp = xmp.decode("latin-1")
        if isinstance(xmp, str) and (found := re.search(XMP_ORIENTATION, xmp)):
            return int(found[1])
    return None
