"""An image file, on disk or in memory, to the pixels the image tower takes, or to the error of its row."""

from __future__ import annotations

import ctypes
import errno
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from longclip_cli.errors import Reason, ResourceError, RowError, quote
from longclip_cli.models.preprocessing import resized
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.image_formats import (
    BYTES_PER_PIXEL,
    check_content,
    check_decoder,
    decoding_bytes,
    readable_formats,
)
from longclip_cli.pipeline.orientation import UPRIGHT, is_on_its_side, orientation_of
from longclip_cli.pipeline.pixels import to_pixels
from longclip_cli.rows import EncodedImage

KINDS_OF_FILE = (
    (stat.S_ISDIR, Reason.FOLDER),
    (stat.S_ISFIFO, Reason.FIFO),
    (stat.S_ISSOCK, Reason.SOCKET),
    (stat.S_ISCHR, Reason.DEVICE),
    (stat.S_ISBLK, Reason.DEVICE),
)
FileVersion: TypeAlias = tuple[int, int, int, int]  # device, inode, size in bytes, time of change in ns
Source: TypeAlias = Path | EncodedImage
Reserve: TypeAlias = Callable[[int], AbstractContextManager[object]]
TENSOR_BYTES_PER_PIXEL = 3  # of what PyTorch resizes
LARGE_BYTES = 128 * 2**20  # decoding takes so long then that giving memory back does not matter


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image as the network takes it: `[3, image_size, image_size]` uint8.

    `is_rotated` says that its EXIF orientation asks for a turn which was not applied.
    """

    pixel_values: Tensor
    is_rotated: bool


def load_image(
    source: Source, image_size: int, options: ScoringOptions, *, reserve: Reserve = nullcontext
) -> LoadedImage:
    """Return the pixels of an image file.

    With the option `exif_orientation`, it is turned upright first. With `fast_decode`, a JPEG is decoded to an eighth,
    a quarter or half of its size if that is no smaller than what it is resized to. With `fast_resize`, PyTorch resizes
    instead of Pillow. Both are quicker, and the pixels differ slightly. `reserve` is called with the bytes that
    decoding takes, known from the header, before the first pixel is decoded; the context that it returns is left when
    the pixels are ready. Raises `RowError` for a path that is not a regular file, for bytes that are empty, and for
    what Pillow cannot decode to its end. Raises `ResourceError` and `MemoryError` if the process has no more file
    descriptors or memory.
    """
    if isinstance(source, Path):
        check_regular_file(source)
    elif not source.content:
        raise RowError(Reason.EMPTY_FILE, source.name)
    with open_image(source, options.max_pixels) as image:
        check_pixels(source, image.size, image_size, options.max_pixels)
        size = resized(image.size, image_size)
        is_drafted = options.fast_decode and image.draft("RGB", size) is not None
        needed = loading_bytes(image, size, options)
        with reserve(needed), decoding_errors(source, options.max_pixels):
            image.load()
            orientation = orientation_of(image)
            applied = orientation if options.exif_orientation else UPRIGHT
            upright_size = size[::-1] if is_on_its_side(applied) else size
            pixel_values = to_pixels(
                image,
                image_size,
                upright_size if is_drafted else None,  # Pillow may know a TIFF's size only once it is loaded
                orientation=applied,
                fast_resize=options.fast_resize,
            )
    if needed > LARGE_BYTES:
        trim_heaps()
    return LoadedImage(pixel_values, is_rotated=orientation != applied)


def loading_bytes(image: Image.Image, size: tuple[int, int], options: ScoringOptions) -> int:
    """Return the bytes that decoding, turning and resizing take, if `size` is what the image is resized to.

    A PNG may need to be turned, which its header does not say.
    """
    is_turned = options.exif_orientation and (image.format == "PNG" or orientation_of(image) != UPRIGHT)
    resizing = size[0] * (image.height + size[1])
    if is_turned:
        resizing = max(resizing, size[1] * (image.width + size[0]))
    copies = BYTES_PER_PIXEL * is_turned + TENSOR_BYTES_PER_PIXEL * options.fast_resize
    return decoding_bytes(image, copies) + BYTES_PER_PIXEL * resizing


def trim_heaps() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    It would keep up to what a large image took in the heap of each thread: 2.6 GB after eight of 100 megapixels.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def check_regular_file(path: str | Path) -> FileVersion:
    """Return a key that changes when the file changes. Opens nothing.

    Raises `RowError` unless the path is a regular file that is not empty.
    """
    try:
        status = os.stat(path)  # noqa: PTH116
    except FileNotFoundError:
        raise RowError(Reason.NO_SUCH_FILE, quote(str(Path(path)))) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate in the path
        raise RowError(Reason.CANNOT_OPEN, f"{quote(str(Path(path)))} ({reason_of(error)})") from None
    for is_kind, reason in KINDS_OF_FILE:
        if is_kind(status.st_mode):
            raise RowError(reason, quote(str(Path(path))))
    if status.st_size == 0:
        raise RowError(Reason.EMPTY_FILE, quote(str(Path(path))))
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


@contextmanager
def open_image(source: Source, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Open an image file, check it and read its header; no pixel is decoded, but of icons.

    Raises what `load_image` does, but only for what goes wrong before the `with` block.
    """
    with decoding_errors(source, max_pixels):
        file: BinaryIO = source.open("rb") if isinstance(source, Path) else io.BytesIO(source.content)
    with file:
        with decoding_errors(source, max_pixels):
            file_bytes = file.seek(0, os.SEEK_END)
            file.seek(0)
            check_content(file)
            image = Image.open(file, formats=readable_formats())
            check_decoder(image, file_bytes)
        yield image


@contextmanager
def decoding_errors(source: Source, max_pixels: int) -> Iterator[None]:
    """Turn what Pillow raises for a broken file into the row's error.

    That can be nearly anything: OSError, SyntaxError, ValueError, struct.error, EOFError, ...
    """
    try:
        yield
    except (RowError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise RowError(Reason.UNKNOWN_FORMAT, name_of(source)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found = re.search(r"(\d+) pixels", str(error))
        raise too_many_pixels(source, int(found[1]) if found else 0, max_pixels) from None
    except Exception as error:
        # Only errors of the operating system have a number, and Pillow's own are OSErrors, too.
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.EMFILE, errno.ENFILE):
            raise ResourceError(
                f"{reason_of(error)}: cannot open {name_of(source)}; raise ulimit -n or use fewer --workers"
            ) from error
        reason = Reason.CANNOT_READ if number else Reason.CANNOT_DECODE
        raise RowError(reason, f"{name_of(source)} ({reason_of(error)})") from error


def check_pixels(source: Source, size: tuple[int, int], image_size: int, max_pixels: int) -> None:
    """Raise `RowError` if an image has more than `max_pixels`, or will have once it is resized.

    Resizing makes a large image of a small one that is very long and thin.
    """
    for (width, height), when in ((size, ""), (resized(size, image_size), " once resized")):
        if width * height > max_pixels:
            raise too_many_pixels(source, width * height, max_pixels, when)


def too_many_pixels(source: Source, pixels: int, max_pixels: int, when: str = "") -> RowError:
    """Return the error of a row whose image is above the limit, which is Pillow's own if not `max_pixels`."""
    limit = f"--max-pixels is {max_pixels}" if pixels > max_pixels else f"Pillow's limit is {Image.MAX_IMAGE_PIXELS}"
    return RowError(Reason.TOO_MANY_PIXELS, f"{name_of(source)} has {pixels} pixels{when}, {limit}")


def name_of(source: Source) -> str:
    """Return what messages call an image, at most some 80 characters."""
    return quote(str(source)) if isinstance(source, Path) else source.name


def reason_of(error: Exception) -> str:
    """Return what an exception says, without the path that OSError repeats."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
