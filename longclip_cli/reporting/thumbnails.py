"""Small pictures for a report, of untrusted images."""

from __future__ import annotations

import io

from PIL import Image

from longclip_cli.errors import LongCLIPError, ResourceError
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.images import check_pixels, check_regular_file, decoding_errors, open_image
from longclip_cli.pipeline.load import find_image
from longclip_cli.pipeline.orientation import orientation_of, turned
from longclip_cli.pipeline.pixels import to_rgb
from longclip_cli.rows import EncodedImage, ImageReference

SIDE = 192  # pixels of the longer side
MOST_BYTES = 12 * 2**10  # of a thumbnail, so that a page of them stays small
QUALITIES = (70, 45, 20, 1)  # of WebP; the first that is small enough is taken


def thumbnail(reference: ImageReference, scoring: ScoringOptions) -> bytes | None:
    """Return a WebP file of an image, at most `SIDE` pixels long and `MOST_BYTES` large; `None` if it cannot be read.

    The image is checked as when it is scored, and turned as the options say. Raises `ResourceError`.
    """
    try:
        _, read = find_image(reference, scoring)
        source = read()
        check_file(source)
        with open_image(source, scoring.max_pixels) as image:
            check_pixels(source, image.size, SIDE, scoring.max_pixels)
            with decoding_errors(source, scoring.max_pixels):
                image.draft("RGB", (SIDE, SIDE))
                image.load()
                orientation = orientation_of(image)
                small = to_rgb(image)
                small.thumbnail((SIDE, SIDE))
                return encoded(turned(small, orientation) if scoring.exif_orientation else small)
    except ResourceError:
        raise
    except (LongCLIPError, MemoryError, OSError, ValueError):
        return None


def image_size(reference: ImageReference, scoring: ScoringOptions) -> tuple[int, int] | None:
    """Return the width and height of an image as stored, in pixels, from its header; `None` if it cannot be read."""
    try:
        _, read = find_image(reference, scoring)
        source = read()
        check_file(source)
        with open_image(source, scoring.max_pixels) as image:
            return image.size
    except ResourceError:
        raise
    except (LongCLIPError, MemoryError):
        return None


def check_file(source: object) -> None:
    """Raise `RowError` if an image is a path to something other than a file."""
    if not isinstance(source, EncodedImage):
        check_regular_file(str(source))


def encoded(image: Image.Image) -> bytes | None:
    """Return an image as WebP, in the best quality in which it has at most `MOST_BYTES`."""
    for quality in QUALITIES:
        file = io.BytesIO()
        image.save(file, "WEBP", quality=quality, method=2)
        if file.tell() <= MOST_BYTES:
            return file.getvalue()
    return None
