"""The content of a report, collected in one pass over scored rows in constant memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

from longclip_cli.errors import RowError
from longclip_cli.reporting.counts import BINS, Counts
from longclip_cli.reporting.examples import Example, Origin, example_of, scores_of, shortened
from longclip_cli.reporting.samples import Highest, Reservoir
from longclip_cli.reporting.thumbnails import image_size
from longclip_cli.reporting.trends import Trend
from longclip_cli.rows import ImageReference, Result, Row

SEED = 0
MICRO = 1_000_000 // BINS  # scores have six decimals
GALLERY = 12  # examples in each gallery
GROUPS = 200  # ranges of the score, each with examples of its own
PER_GROUP = 6
MOST_SAMPLED = 4_096  # characters of a text, and of a path
SAMPLED = 5_000  # rows whose images and tokens are looked at
EXAMPLES_PER_REASON = 3
MOST_REASONS = 60
OTHER_REASONS = "other reasons"


@dataclass(frozen=True, slots=True)
class Sampled:
    """A scored pair whose image and text are looked at: the image as a path, or its width and height in pixels."""

    origin: Origin
    score: float
    text: str
    image: str | None
    size: tuple[int, int] | None = None

    def image_size(self) -> tuple[int, int] | None:
        """Return the image's width and height; `None` if it can't be read."""
        return image_size(self.image, self.origin.scoring) if self.image else self.size


def sampled(origin: Origin, score: float, text: str, image: ImageReference | None) -> Sampled:
    """Return what is kept of a pair in the sample: of an image that the row holds itself, its size."""
    start = text[:MOST_SAMPLED]
    if image is None:
        return Sampled(origin, score, start, None)
    if isinstance(image, str) and len(image) <= MOST_SAMPLED and not image.startswith("data:"):
        return Sampled(origin, score, start, image)
    return Sampled(origin, score, start, None, image_size(image, origin.scoring))


class ReportRows:
    """Counts the rows of scored files, and keeps examples of them; the same rows always give the same.

    In `places`, each score is in the bin that it has reached, of `BINS` from 0 to 1: so the count of scores from a
    multiple of 1 / `BINS` on is exact.
    """

    def __init__(self) -> None:
        self._random = Random(SEED)
        self.counts = Counts()
        self.rows_without_result = 0
        self.has_lists = False  # of scores
        self.places: Counter[int] = Counter()
        self.by_length = Trend()  # of the text, in characters
        self.best: Highest[Example] = Highest(GALLERY)
        self.worst: Highest[Example] = Highest(GALLERY)
        self.groups: dict[int, Reservoir[Example]] = {}
        self.failures: dict[str, Reservoir[Example]] = {}
        self.failed_scores: Counter[str] = Counter()
        self.sample: Reservoir[Sampled] = Reservoir(SAMPLED, self._random)

    def add(self, origin: Origin, row: Row, result: Result | None) -> None:
        """Add one row of a scored file. `None`: the row holds no result of a run."""
        if result is None:
            self.rows_without_result += 1
            return
        self.counts.add_kept(row, result)
        self.counts.failures.clear()  # a hostile file may hold any number of them; `failed_scores` is bounded
        self.has_lists |= isinstance(result, tuple)
        for score, element, image, text in scores_of(row, result):
            if isinstance(score, RowError):
                self._add_failure(origin, row, score, element)
            else:
                self._add_score(origin, row, score, element, image, text)

    def _add_score(
        self, origin: Origin, row: Row, score: float, element: int | None, image: ImageReference | None, text: str
    ) -> None:
        place = round(score * 1_000_000) // MICRO
        self.places[place] += 1
        self.by_length.add(len(text), score)
        group = self.groups.get(place * GROUPS // BINS)
        if group is None:
            group = self.groups[place * GROUPS // BINS] = Reservoir(PER_GROUP, self._random)
        is_best, is_worst = self.best.is_chosen(score), self.worst.is_chosen(-score)
        is_in_group = group.is_chosen()
        if is_best or is_worst or is_in_group:
            example = example_of(origin, row, score, element)
            if is_best:
                self.best.put(score, example)
            if is_worst:
                self.worst.put(-score, example)
            if is_in_group:
                group.put(example)
        if self.sample.is_chosen():
            self.sample.put(sampled(origin, score, text, image))

    def _add_failure(self, origin: Origin, row: Row, error: RowError, element: int | None) -> None:
        label = shortened(error.label)
        if label not in self.failures and len(self.failures) >= MOST_REASONS:
            label = OTHER_REASONS
        self.failed_scores[label] += 1
        kept = self.failures.get(label)
        if kept is None:
            kept = self.failures[label] = Reservoir(EXAMPLES_PER_REASON, self._random)
        if kept.is_chosen():
            kept.put(example_of(origin, row, error, element))

    @property
    def examples(self) -> list[Example]:
        """All scored examples, from the lowest score to the highest; of equal scores in order of their rows."""
        kept = [*self.best.items, *self.worst.items, *(each for group in self.groups.values() for each in group.items)]
        unique = {(each.origin.file, each.number, each.element): each for each in kept}
        return sorted(unique.values(), key=lambda each: (each.score, each.origin.file, each.number, each.element or 0))
