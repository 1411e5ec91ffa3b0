"""Images and texts as Python callers give them, to what the network takes or the error that the command would give."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from longclip_cli.errors import Reason, RowError
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.batches import chunks
from longclip_cli.pipeline.cache import ImageInput, TextInput
from longclip_cli.pipeline.images import check_pixels, decoding_errors, load_image
from longclip_cli.pipeline.load import find_image, load_text
from longclip_cli.pipeline.pixels import to_pixels
from longclip_cli.rows import RowErrors, image_reference, text_of

ImageSource: TypeAlias = str | PathLike[str] | Image.Image | NDArray[np.uint8]
Errors = Literal["raise", "return"]
Source = TypeVar("Source")
Loaded = TypeVar("Loaded")


def check_several(values: object) -> None:
    """Raise `TypeError` for one text or image where several belong: a string and an array are sequences, too."""
    is_image = isinstance(values, Image.Image) or (isinstance(values, np.ndarray) and values.ndim in (2, 3))
    if is_image or isinstance(values, str | PathLike):
        raise TypeError(f"expected a list, got {type(values).__name__}")


def features_of(
    sources: Sequence[Source],
    name: str,
    load: Callable[[Source, str], Loaded],
    encode: Callable[[Iterable[Loaded]], Tensor],
    chunk_rows: int,
    errors: Errors,
) -> list[Tensor | RowError]:
    """Return the features, or with `errors="return"` the error, of each of the caller's `name`.

    What is given several times is loaded and encoded once. `load` runs in threads, on `chunk_rows` sources at a time.
    """
    check_several(sources)
    keys = [key_of(source) for source in sources]
    first: dict[Hashable, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)

    def attempt(key: Hashable) -> Loaded | RowError:
        try:
            with RowErrors():
                return load(sources[first[key]], f"{name}[{first[key]}]")
        except RowError as error:
            if errors == "raise":
                raise
            return error.with_traceback(None)

    features: dict[Hashable, Tensor | RowError] = {}
    with ThreadPoolExecutor() as pool:
        for chunk in chunks(list(first), chunk_rows):
            whole: dict[Hashable, Loaded] = {}
            for key, loaded in zip(chunk, pool.map(attempt, chunk), strict=True):
                if isinstance(loaded, RowError):
                    features[key] = loaded
                else:
                    whole[key] = loaded
            if whole:
                features |= zip(whole, encode(whole.values()).cpu(), strict=True)
    return [features[key] for key in keys]


def key_of(source: object) -> Hashable:
    """Return what is the same for sources that are the same path or text, or the same object."""
    source = os.fspath(source) if isinstance(source, PathLike) else source
    return source if isinstance(source, str) else id(source)


def load_image_source(source: ImageSource, name: str, image_size: int, max_pixels: int) -> ImageInput:
    """Return the pixels of an image. Errors call it `name` if it has no path. Raises `RowError`."""
    if isinstance(source, np.ndarray):
        check_array(source, name)
        source = Image.fromarray(source)
    if isinstance(source, Image.Image):
        path = Path(getattr(source, "filename", "") or name)
        with decoding_errors(path, max_pixels):
            check_pixels(path, source.size, image_size, max_pixels)
            return ImageInput(to_pixels(source, image_size))
    options = ScoringOptions(max_pixels=max_pixels)
    _, read = find_image(image_reference(os.fspath(source) if isinstance(source, PathLike) else source, name), options)
    return ImageInput(load_image(read(), image_size, options).pixel_values)


def check_array(array: NDArray[Any], name: str) -> None:
    """Raise `RowError` unless an array is the pixels of an image: `[H, W, 3]` or `[H, W]`, uint8."""
    has_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if array.dtype != np.uint8 or not has_shape or not array.size:
        given = f"{array.dtype} of shape {array.shape}"
        raise RowError(Reason.NOT_PIXELS, f"'{name}' is {given}; give uint8, [H, W, 3] or [H, W]")


def load_text_source(text: object, name: str, context_length: int) -> TextInput:
    """Return the tokens of a text. Errors call it `name`. Raises `RowError`."""
    return load_text(text_of(text, name), context_length)
