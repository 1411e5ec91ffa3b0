"""A row's image and text to what the network takes; what rows have in common is loaded once."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from longclip_cli.errors import RowError
from longclip_cli.models.tokenizer import byte_pair_encoder, tokenize
from longclip_cli.options import ScoringOptions
from longclip_cli.pipeline.budget import MemoryBudget
from longclip_cli.pipeline.cache import ImageInput, Memory, TextInput
from longclip_cli.pipeline.image_formats import configure_pillow
from longclip_cli.pipeline.images import FileVersion, Reserve, check_regular_file, load_image
from longclip_cli.rows import Row, RowErrors

REMEMBERED = 4096  # images, and as many texts: about 5 KB each

Loaded = TypeVar("Loaded")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and a text as the network takes them, or as it has encoded them before."""

    image: ImageInput
    text: TextInput


@dataclass(frozen=True, slots=True)
class LoadedRow:
    """A row with what is to be scored, or with the error that says why it can't be."""

    row: Row
    pair: Pair | RowError


@dataclass(frozen=True, slots=True)
class LoadingRow:
    """A row whose image and text may still be loaded for an earlier row that shares them."""

    row: Row
    image: Future[ImageInput]
    text: Future[TextInput]

    def wait(self) -> LoadedRow:
        """Return the row once both are loaded."""
        try:
            return LoadedRow(self.row, Pair(self.image.result(), self.text.result()))
        except RowError as error:
            return LoadedRow(self.row, error.with_traceback(None))


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
        """Return the row with its image and text. Raises a `LongCLIPError` for what ends the run."""
        if isinstance(row.inputs, RowError):
            return LoadedRow(row, row.inputs)
        try:
            path, version = find_image(row.inputs.image, self._options)
            text = self._recall_text(row.inputs.text)
            if text.done():
                text.result()  # raises, before the image is decoded for nothing
            return LoadingRow(row, self._recall_image(path, version), text)
        except RowError as error:
            return LoadedRow(row, error.with_traceback(None))

    def _recall_image(self, path: str, version: FileVersion) -> Future[ImageInput]:
        def load(reserve: Reserve) -> ImageInput:
            return ImageInput(load_image(Path(path), self._image_size, self._options, reserve=reserve))

        return self._images.recall((path, version), lambda: self._attempt(load))

    def _recall_text(self, text: str) -> Future[TextInput]:
        def load(_: Reserve) -> TextInput:
            return load_text(text, self._context_length)

        with RowErrors():
            key = digest(text)
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


def find_image(reference: str, options: ScoringOptions) -> tuple[str, FileVersion]:
    """Return the path of an image and the version of the file that is there now. Raises `RowError`.

    Most rows of some inputs need no more than this, so it makes no `Path`, which would take half of its time.
    """
    with RowErrors():
        path = os.path.join(options.image_root, reference)  # noqa: PTH118
        return path, check_regular_file(path)


def load_text(text: str, context_length: int) -> TextInput:
    """Return the tokens of a text, cut at `context_length` of them."""
    tokenized = tokenize(text, context_length)
    return TextInput(tokenized.ids, is_cut=tokenized.is_cut)


def digest(text: str) -> bytes:
    """Return a hash of 16 bytes that tells one text from another, however long they are."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
