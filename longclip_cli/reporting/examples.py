"""Rows that a report shows: their scores, texts and images, as much of them as is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from longclip_cli.errors import RowError, cut
from longclip_cli.options import ScoringOptions
from longclip_cli.reporting.thumbnails import thumbnail
from longclip_cli.rows import EncodedImage, ImageReference, Result, Row, Score

MOST_CHARACTERS = 3_000  # of a text; 248 tokens are some 1,200
MOST_IMAGE_BYTES = 128 * 2**10  # that a row holds itself; of a larger image the thumbnail is kept
MOST_MESSAGE = 300  # characters


@dataclass(frozen=True, slots=True)
class Origin:
    """The scored file that a row is in, and the options that its images are read with."""

    file: str
    scoring: ScoringOptions


@dataclass(frozen=True, slots=True)
class Caption:
    """The start of a text, and how many characters follow it."""

    text: str
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """One score of a row, or why it has none, with the image and the texts that it is about.

    `element` is its place in a list of scores.
    """

    origin: Origin
    number: int
    score: float | None
    error: str = ""
    element: int | None = None
    captions: tuple[Caption, ...] = ()
    image: ImageReference | None = None
    image_name: str = ""

    def kept(self) -> Example:
        """Return the example as it is kept while other rows are read: with a thumbnail of a large image it holds."""
        if held_bytes(self.image) <= MOST_IMAGE_BYTES or self.image is None:
            return self
        small = thumbnail(self.image, self.origin.scoring)
        return replace(self, image=EncodedImage(small, self.image_name) if small else None)


def held_bytes(image: ImageReference | None) -> int:
    """Return how many bytes of an image file the row holds itself."""
    return len(image.content) if isinstance(image, EncodedImage) else len(image or "")


def example_of(origin: Origin, row: Row, score: Score, element: int | None) -> Example:
    """Return one score of a row as an example. `element` is its place if the row has a list of scores."""
    value, error = (None, shortened(str(score))) if isinstance(score, RowError) else (score, "")
    found = Example(origin, row.number, value, error, element)
    if isinstance(row.inputs, RowError):
        return found
    pairs = row.inputs.pairs
    chosen = pairs if element is None or len(pairs) <= element else pairs[element : element + 1]
    captions = tuple(dict.fromkeys(caption_of(text) for _, text in chosen if isinstance(text, str)))
    image = chosen[0][0]
    if isinstance(image, RowError):
        return replace(found, captions=captions)
    return replace(found, captions=captions, image=image, image_name=name_of(image)).kept()


def shortened(message: str) -> str:
    """Return a message, cut if it is longer than any that a run writes."""
    return message if len(message) <= MOST_MESSAGE else f"{message[:MOST_MESSAGE]}…"


def caption_of(text: str) -> Caption:
    """Return what is kept of a text."""
    return Caption(text[:MOST_CHARACTERS], max(0, len(text) - MOST_CHARACTERS))


def name_of(image: ImageReference) -> str:
    """Return what a report calls an image."""
    if isinstance(image, EncodedImage):
        return image.name
    return "a data: URI" if image.startswith("data:") else cut(image)


def scores_of(row: Row, result: Result) -> Iterator[tuple[Score, int | None, ImageReference | None, str]]:
    """Yield the scores of a row, each with its place in a list, its image and its text.

    A score that several texts were reduced to has no text, and one of several images no image.
    """
    pairs = [] if isinstance(row.inputs, RowError) else row.inputs.pairs
    if not isinstance(result, tuple):
        image, text = pairs[0] if len(pairs) == 1 else (None, "")
        yield result, None, whole(image), text if isinstance(text, str) else ""
        return
    for element, score in enumerate(result):
        image, text = pairs[element] if len(pairs) == len(result) else (None, "")
        yield score, element, whole(image), text if isinstance(text, str) else ""


def whole(value: ImageReference | RowError | None) -> ImageReference | None:
    """Return an image; `None` if it is an error."""
    return None if isinstance(value, RowError) else value
