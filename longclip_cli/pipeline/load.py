"""A row's image and text to what the network takes; what rows have in common is loaded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import starmap
from pathlib import Path
from typing import TypeVar

from longclip_cli.errors import RowError
from longclip_cli.models.tokenizer import byte_pair_encoder, tokenize
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.budget import MemoryBudget
from longclip_cli.pipeline.cache import ImageInput, Memory, TextInput
from longclip_cli.pipeline.data_uris import decode_data_uri
from longclip_cli.pipeline.image_formats import configure_pillow
from longclip_cli.pipeline.images import Reserve, check_regular_file, load_image
from longclip_cli.rows import EncodedImage, ImageReference, Row, RowErrors, RowInputs

REMEMBERED = 4096  # images, and as many texts: about 5 KB each

Loaded = TypeVar("Loaded")
Reference = TypeVar("Reference")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and a text as the network takes them, or as it has encoded them before."""

    image: ImageInput
    text: TextInput


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """A row with the pairs that are to be scored, or with the error that says why none can be.

    An element of the pairs may be the error that says why that one can't be.
    """

    row: Row
    pairs: tuple[Pair | RowError, ...] | RowError


@dataclass(frozen=True, slots=True)
class LoadingRow:
    """A row whose images and texts may still be loaded for an earlier row that shares them."""

    row: Row
    images: tuple[Future[ImageInput] | RowError, ...]
    texts: tuple[Future[TextInput] | RowError, ...]

    def wait(self) -> LoadedRow:
        """Return the row once all are loaded."""
        images, texts = list(map(settled, self.images)), list(map(settled, self.texts))
        is_list = isinstance(self.row.inputs, RowInputs) and self.row.inputs.reduce is not None
        alone = [*images[: len(images) == 1], *texts[: len(images) > 1 or not is_list]]  # what each pair has
        if failed := next((part for part in alone if isinstance(part, RowError)), None):
            return LoadedRow(self.row, failed)
        if not images:  # all texts have failed
            return LoadedRow(self.row, tuple(text for text in texts if isinstance(text, RowError)))
        count = max(len(images), len(texts))
        pairs = zip(images * (count // len(images)), texts * (count // len(texts)), strict=True)
        return LoadedRow(self.row, tuple(starmap(pair_of, pairs)))


def attempt(recall: Callable[[Reference], Future[Loaded]], reference: Reference) -> Future[Loaded] | RowError:
    """Return what `recall` gives, or why it gives nothing."""
    try:
        return recall(reference)
    except RowError as error:
        return error.with_traceback(None)


def settled(loading: Future[Loaded] | RowError) -> Loaded | RowError:
    """Return what was loaded, once it is, or why it can't be. Raises a `LongCLIPError` for what ends the run."""
    if isinstance(loading, RowError):
        return loading
    try:
        return loading.result()
    except RowError as error:
        return error.with_traceback(None)


def pair_of(image: ImageInput | RowError, text: TextInput | RowError) -> Pair | RowError:
    """Return a pair, or the error of its image or its text."""
    if isinstance(image, RowError):
        return image
    return text if isinstance(text, RowError) else Pair(image, text)


class RowLoader:
    """Loads rows, or waits for another thread that loads the same image or text; safe to call from several threads.

    `image_size` is in pixels, `context_length` in tokens. Images and texts that rows have in common are loaded once,
    as long as they are among the `REMEMBERED` used last. A file with a new size, time or inode counts as a new image.
    Images being decoded stay within `budget`. Pillow's messages are silenced, and the options' `max_pixels` is its
    limit from then on, for the whole process.
    """

    def __init__(
        self, options: ScoringOptions, *, image_size: int, context_length: int, budget: MemoryBudget | None = None
    ) -> None:
        self.budget = budget or MemoryBudget()
        self.pixel_bytes = 3 * image_size**2  # of a loaded row
        self._options = options
        self._image_size = image_size
        self._context_length = context_length
        configure_pillow(options.max_pixels)
        byte_pair_encoder()  # or each worker thread would build its own
        self._images: Memory[ImageInput] = Memory(REMEMBERED)
        self._texts: Memory[TextInput] = Memory(REMEMBERED)

    def __call__(self, row: Row) -> LoadingRow | LoadedRow:
        """Return the row with its images and texts. Raises a `LongCLIPError` for what ends the run."""
        if isinstance(row.inputs, RowError):
            return LoadedRow(row, row.inputs)
        texts = tuple(attempt(self._recall_text, text) for text in row.inputs.texts)
        if all(map(has_failed, texts)):  # no image is decoded for nothing
            return LoadingRow(row, (), texts).wait()
        return LoadingRow(row, tuple(attempt(self._recall_image, image) for image in row.inputs.images), texts)

    def _recall_image(self, reference: ImageReference | RowError) -> Future[ImageInput]:
        if isinstance(reference, RowError):
            raise reference
        key, read = find_image(reference, self._options)

        def load(reserve: Reserve) -> ImageInput:
            image = load_image(read(), self._image_size, self._options, reserve=reserve)
            return ImageInput(image.pixel_values, is_rotated=image.is_rotated)

        return self._images.recall(key, lambda: self._attempt(load))

    def _recall_text(self, text: str | RowError) -> Future[TextInput]:
        if isinstance(text, RowError):
            raise text

        def load(_: Reserve) -> TextInput:
            return load_text(text, self._context_length)

        with RowErrors():
            key = digest(text.encode("utf-8", "surrogatepass"))
        return self._texts.recall(key, lambda: self._attempt(load))

    def _attempt(self, load: Callable[[Reserve], Loaded]) -> Loaded:
        """Return what `load` gives. If memory runs out it is tried once more, while no other row is worked on.

        Raises `RowError` for all that goes wrong with one row, and other `LongCLIPError`s for what ends the run.
        """
        with RowErrors():
            with suppress(MemoryError):
                return load(self.budget.reserve)
            with self.budget.alone():
                return load(nullcontext)


def has_failed(loading: Future[TextInput] | RowError) -> bool:
    """Return whether it is known already that a text cannot be scored."""
    return isinstance(loading, RowError) or (loading.done() and loading.exception() is not None)


def find_image(
    reference: ImageReference, options: ScoringOptions
) -> tuple[Hashable, Callable[[], Path | EncodedImage]]:
    """Return a key of an image, which changes when the image does, and what gives the image. Raises `RowError`.

    Most rows of some inputs need no more than the key of a file, so it makes no `Path`, which would take half of its
    time.
    """
    with RowErrors():
        if isinstance(reference, EncodedImage):
            return digest(reference.content), lambda: reference
        if reference.startswith("data:"):
            return digest(reference.encode("utf-8", "surrogatepass")), lambda: decode_data_uri(reference)
        path = os.path.join(options.image_root, reference)  # noqa: PTH118
        return (path, check_regular_file(path)), lambda: Path(path)


def load_text(text: str, context_length: int) -> TextInput:
    """Return the tokens of a text, cut at `context_length` of them."""
    tokenized = tokenize(text, context_length)
    return TextInput(tokenized.ids, is_cut=tokenized.is_cut)


def digest(content: bytes) -> bytes:
    """Return a hash of 16 bytes that tells one text or image from another, however long they are."""
    return blake2b(content, digest_size=16).digest()
