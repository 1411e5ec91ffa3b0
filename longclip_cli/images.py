"""A file to the pixels the image tower takes: RGB, resized, centre-cropped, `[3, n, n]` uint8.

The arithmetic is that of CLIP's preprocessing (torchvision's `Resize` and `CenterCrop` on a PIL image),
less the normalisation, which the device does.
"""

from __future__ import annotations

import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from longclip_cli.errors import RowError
from longclip_cli.options import ScoreOptions

KINDS_OF_FILE = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
FileVersion: TypeAlias = tuple[int, int, int, int]  # device, inode, size in bytes, time of change in ns
Reserve: TypeAlias = Callable[[int], AbstractContextManager[object]]
STRIP_BYTES = 2**20
BYTES_PER_PIXEL = 4  # Pillow's, also of RGB
NEVER_DECODED = {"EPS"}  # its decoder runs Ghostscript


def limit_pixels(max_pixels: int) -> None:
    """Have images of more pixels refused, before they are decoded and wherever in a file they are.

    It is Pillow that checks, and keeps the limit for the whole process.
    """
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def load_image(
    path: Path,
    image_size: int,
    *,
    max_pixels: int = ScoreOptions.max_pixels,
    fast_decode: bool = False,
    fast_resize: bool = False,
    reserve: Reserve = nullcontext,
) -> Tensor:
    """Return the pixels of an image file, `[3, image_size, image_size]` uint8.

    With `fast_decode`, a JPEG is decoded to an eighth, a quarter or half of its size if that is no smaller than
    what it is resized to. With `fast_resize`, PyTorch resizes instead of Pillow. Both are quicker, and the pixels
    differ slightly. `reserve` is called with the bytes that decoding takes, known from the header, before the first
    pixel is decoded; the context that it returns is left when the pixels are ready.
    Raises `RowError` for a path that is not a regular file, or that Pillow cannot decode to its end.
    """
    check_regular_file(path)
    with open_image(path, max_pixels) as image:
        check_pixels(path, image.size, image_size, max_pixels)
        size = resized(image.size, image_size)
        if fast_decode:
            image.draft("RGB", size)
        with reserve(bytes_to_decode(image, size)), row_errors(path, max_pixels):
            return to_pixels(image, image_size, size, fast_resize=fast_resize)


@contextmanager
def open_image(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image file and read its header; no pixel is decoded.

    Raises `RowError`, but not for what is raised inside the context.
    """
    with row_errors(path, max_pixels):
        image = Image.open(path, formats=safe_formats())
    with image:
        yield image


def bytes_to_decode(image: Image.Image, size: tuple[int, int]) -> int:
    """Return the bytes that Pillow takes to decode an image, to convert it to RGB and to resize it to `size`."""
    width, height = image.size
    copies = 1 if image.mode == "RGB" else 2
    return BYTES_PER_PIXEL * (copies * width * height + size[0] * (height + size[1]))


def check_regular_file(path: Path) -> FileVersion:
    """What tells a file from what else was or will be under its path; opens nothing.

    Raises `RowError` unless it is a regular file with something in it.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise RowError("image: no such file", str(path)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate in the path
        raise RowError("image: cannot be opened", f"{path!s} ({reason_of(error)})") from None
    for is_kind, name in KINDS_OF_FILE:
        if is_kind(status.st_mode):
            raise RowError(f"image: {name}, not a file", str(path))
    if status.st_size == 0:
        raise RowError("image: an empty file", str(path))
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def row_errors(path: Path, max_pixels: int) -> Iterator[None]:
    """Turns whatever Pillow raises for a broken file into the row's error.

    That can be nearly anything: OSError, SyntaxError, ValueError, struct.error, EOFError, ...
    """
    try:
        yield
    except RowError:
        raise
    except UnidentifiedImageError:
        raise RowError("image: not an image format that can be read", str(path)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found = re.search(r"(\d+) pixels", str(error))
        raise too_many_pixels(path, int(found[1]) if found else 0, max_pixels) from None
    except Exception as error:
        # Only errors of the operating system have a number, and Pillow's own are OSErrors, too.
        problem = "cannot be read" if isinstance(error, OSError) and error.errno else "cannot be decoded"
        raise RowError(f"image: {problem}", f"{path!s} ({reason_of(error)})") from error


def check_pixels(path: Path, size: tuple[int, int], image_size: int, max_pixels: int) -> None:
    """Raise `RowError` if an image has more than `max_pixels`, or will have once it is resized.

    Resizing makes a large image of a small one that is very long and thin.
    """
    for (width, height), when in ((size, ""), (resized(size, image_size), " once resized")):
        if width * height > max_pixels:
            raise too_many_pixels(path, width * height, max_pixels, when)


def too_many_pixels(path: Path, pixels: int, max_pixels: int, when: str = "") -> RowError:
    """Return the error of a row whose image is above the limit, which is Pillow's own if not `max_pixels`."""
    limit = f"--max-pixels is {max_pixels}" if pixels > max_pixels else f"Pillow's is {Image.MAX_IMAGE_PIXELS}"
    return RowError("image: too many pixels", f"{path!s} has {pixels} pixels{when}, {limit}")


def reason_of(error: Exception) -> str:
    """What an exception says, without the path that OSError repeats."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@cache
def safe_formats() -> tuple[str, ...]:
    """The names of the image formats that are decoded: all of Pillow's that run no other program."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NEVER_DECODED)


def to_pixels(
    image: Image.Image, image_size: int, size: tuple[int, int] | None = None, *, fast_resize: bool = False
) -> Tensor:
    """An image made RGB, resized and centre-cropped, `[3, image_size, image_size]` uint8.

    `size` is what to resize it to, if that is not to be told from its own width and height.
    `fast_resize` is as in `load_image`.
    """
    if image.mode != "RGB":
        image = image.convert("RGB")
    width, height = size = size or resized(image.size, image_size)
    left, top = round((width - image_size) / 2), round((height - image_size) / 2)
    if fast_resize and image.size != size:
        # The same filter with weights of 16 bits instead of 22: a pixel in some hundred is one level off.
        pixels = F.interpolate(rgb_values(image)[None], (height, width), mode="bicubic", antialias=True)[0]
        # Unlike `contiguous()` these copies start no threads of their own in each thread that loads images.
        return pixels.narrow_copy(1, top, image_size).narrow_copy(2, left, image_size)
    # In width first, as the original: for tall images Pillow 13 does it the other way round, with other roundings.
    image = image.resize((width, image.height), Image.Resampling.BICUBIC).resize(size, Image.Resampling.BICUBIC)
    return rgb_values(image.crop((left, top, left + image_size, top + image_size)))


def rgb_values(image: Image.Image) -> Tensor:
    """The pixels of an RGB image, `[3, height, width]` uint8.

    They are copied a strip at a time, since Pillow would need them twice more to give them out at once.
    """
    row_bytes = 3 * image.width
    strip = max(1, STRIP_BYTES // row_bytes)
    values = bytearray(image.height * row_bytes)
    for top in range(0, image.height, strip):
        bottom = min(top + strip, image.height)
        values[top * row_bytes : bottom * row_bytes] = image.crop((0, top, image.width, bottom)).tobytes()
    return torch.frombuffer(values, dtype=torch.uint8).view(image.height, image.width, 3).permute(2, 0, 1)


def resized(size: tuple[int, int], image_size: int) -> tuple[int, int]:
    """Width and height once the shorter side is `image_size`; the other is rounded down."""
    width, height = size
    if width <= height:
        return image_size, int(image_size * height / width)
    return int(image_size * width / height), image_size
