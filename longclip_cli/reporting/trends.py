"""How scores depend on a quantity, such as the length of the text: percentiles in each range of it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from math import floor, log2

SCORE_BINS = 1000
SHOWN = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Range:
    """The scores of rows whose quantity is from `low` up to below `high`.

    `percentiles` are the 5th, 25th, 50th, 75th and 95th, exact to 0.001.
    """

    low: float
    high: float
    count: int
    percentiles: tuple[float, ...]


class Trend:
    """Counts scores by ranges of a quantity, of which each octave has `per_octave`."""

    def __init__(self, per_octave: int) -> None:
        self._per_octave = per_octave
        self._scores: dict[int, Counter[int]] = {}

    def add(self, quantity: float, score: float) -> None:
        """Count a score; a quantity that is not positive is left out."""
        if quantity > 0:
            place = floor(self._per_octave * log2(quantity))
            counts = self._scores.get(place)
            if counts is None:
                counts = self._scores[place] = Counter()
            counts[int(score * SCORE_BINS)] += 1

    def ranges(self) -> list[Range]:
        """Return the ranges from the lowest to the highest that has scores; one without any has no percentiles."""
        places = range(min(self._scores), max(self._scores) + 1) if self._scores else range(0)
        return [self._range(place, self._scores.get(place, Counter())) for place in places]

    def _range(self, place: int, counts: Counter[int]) -> Range:
        low, high = (2 ** (edge / self._per_octave) for edge in (place, place + 1))
        return Range(low, high, counts.total(), percentiles(counts))


def percentiles(counts: Counter[int]) -> tuple[float, ...]:
    """Return the percentiles `SHOWN` of scores that are counted in `SCORE_BINS` bins: the middles of bins."""
    places = sorted(counts)
    sums = list(accumulate(counts[place] for place in places))
    if not sums:
        return ()
    found = (places[bisect_left(sums, sums[-1] * percent / 100)] for percent in SHOWN)
    return tuple(min((place + 0.5) / SCORE_BINS, 1.0) for place in found)
