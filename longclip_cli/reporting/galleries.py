"""Galleries of examples: the best, the worst, those around a threshold, and some over the whole range."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from longclip_cli.reporting.counts import BINS
from longclip_cli.reporting.examples import Caption, Example, shortened
from longclip_cli.reporting.report_rows import GALLERY, MICRO, ReportRows
from longclip_cli.reporting.thumbnails import thumbnail
from longclip_cli.reporting.token_marks import MarkedText, mark_tokens


@dataclass(frozen=True)
class Text:
    """A caption as it is shown, and how many characters of it are not."""

    marked: MarkedText
    dropped: int


@dataclass(frozen=True)
class Card:
    """An example as it is shown; `picture` is a WebP file in base64, empty if the image can't be shown."""

    example: Example
    texts: tuple[Text, ...]
    picture: str

    @property
    def file(self) -> str:
        """The name of the file that the row is in."""
        return shortened(self.example.origin.file)

    @property
    def place(self) -> int:
        """The bin of the score that it has reached."""
        return round((self.example.score or 0) * 1_000_000) // MICRO


@dataclass(frozen=True)
class Gallery:
    """Examples under a heading."""

    name: str
    title: str
    note: str
    cards: list[Card]


def galleries(rows: ReportRows, place: int, most: int) -> list[Gallery]:
    """Return the galleries; `place` is the bin of the threshold, and `most` how many characters of a text are shown."""
    examples = rows.examples
    chosen = (
        ("best", "Best", "The highest scores.", rows.best.items),
        ("worst", "Worst", "The lowest scores.", rows.worst.items),
        ("around", f"Around {place / BINS:.4f}", "On both sides of the threshold that the page opens with.",
         around(examples, place / BINS)),
        ("range", "Over the whole range", "At equal distances between the lowest and the highest score.",
         spread(examples, GALLERY)),
    )  # fmt: skip
    return [Gallery(name, title, note, cards_of(items, most)) for name, title, note, items in chosen if items]


def around(examples: Sequence[Example], threshold: float) -> list[Example]:
    """Return the examples nearest to a threshold, as many below it as above it, highest first."""
    below = [each for each in examples if (each.score or 0) < threshold][-GALLERY // 2 :]
    above = [each for each in examples if (each.score or 0) >= threshold][: GALLERY // 2]
    return [*reversed(above), *reversed(below)]


def spread(examples: Sequence[Example], count: int) -> list[Example]:
    """Return examples whose scores are nearest to `count` equally distant ones, each once, highest first."""
    if not examples:
        return []
    scores = [each.score or 0 for each in examples]
    low, high = scores[0], scores[-1]
    left = dict(enumerate(scores))
    found = []
    for step in range(min(count, len(scores))):
        wanted = high - (high - low) * step / max(1, count - 1)
        nearest = min(left, key=lambda index: (abs(left[index] - wanted), index))
        del left[nearest]
        found.append(nearest)
    return [examples[index] for index in sorted(found, reverse=True)]


def cards_of(examples: Sequence[Example], most: int, *, with_picture: bool = True) -> list[Card]:
    """Return examples as they are shown, with at most so many characters of each text."""
    return [
        Card(each, tuple(text_of(caption, most) for caption in each.captions), picture_of(each) if with_picture else "")
        for each in examples
    ]


def text_of(caption: Caption, most: int) -> Text:
    """Return a caption as it is shown, at most so many characters of it."""
    return Text(mark_tokens(caption.text[:most]), caption.dropped + max(0, len(caption.text) - most))


def picture_of(example: Example) -> str:
    """Return the thumbnail of an example's image in base64; empty if it can't be read."""
    content = thumbnail(example.image, example.origin.scoring) if example.image is not None else None
    return base64.b64encode(content).decode() if content else ""
