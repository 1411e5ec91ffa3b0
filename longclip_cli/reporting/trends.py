"""How scores depend on a quantity, such as the length of the text: percentiles in each range of it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from math import floor, log2

SCORE_BINS = 1000
SHOWN = (5, 25, 50, 75, 95)
MOST_RANGES = 12


@dataclass(frozen=True)
class Range:
    """The scores of rows whose quantity is from `low` up to below `high`.

    `percentiles` are the 5th, 25th, 50th, 75th and 95th, exact to 0.0005. Without scores there are none.
    """

    low: float
    high: float
    count: int
    percentiles: tuple[float, ...]


class Trend:
    """Counts scores by ranges of a quantity, of which each octave has two.

    If `is_centred`, 1 is in the middle of a range, and not the start of one.
    """

    def __init__(self, *, is_centred: bool = False) -> None:
        self._per_octave = 2
        self._shift = 0.5 if is_centred else 0.0
        self._scores: dict[int, Counter[int]] = {}

    def add(self, quantity: float, score: float) -> None:
        """Count a score; a quantity that is not positive is left out."""
        if quantity > 0:
            place = floor(self._per_octave * log2(quantity) + self._shift)
            counts = self._scores.get(place)
            if counts is None:
                counts = self._scores[place] = Counter()
            counts[int(score * SCORE_BINS)] += 1

    def ranges(self) -> list[Range]:
        """Return the ranges from the lowest to the highest that has scores, at most `MOST_RANGES`.

        If there are more, ranges are joined by twos.
        """
        scores, per_octave, shift = self._scores, float(self._per_octave), self._shift
        while scores and max(scores) - min(scores) >= MOST_RANGES:
            joined: dict[int, Counter[int]] = {}
            for place, counts in scores.items():
                joined.setdefault(place // 2, Counter()).update(counts)
            scores, per_octave, shift = joined, per_octave / 2, shift / 2
        places = range(min(scores), max(scores) + 1) if scores else range(0)
        edges = [2 ** ((place - shift) / per_octave) for place in (*places, places.stop)]
        found = (scores.get(place, Counter()) for place in places)
        return [
            Range(low, high, counts.total(), percentiles(counts))
            for low, high, counts in zip(edges, edges[1:], found, strict=False)
        ]


def percentiles(counts: Counter[int]) -> tuple[float, ...]:
    """Return the percentiles `SHOWN` of scores that are counted in `SCORE_BINS` bins: the middles of bins."""
    places = sorted(counts)
    sums = list(accumulate(counts[place] for place in places))
    if not sums:
        return ()
    found = (places[bisect_left(sums, sums[-1] * percent / 100)] for percent in SHOWN)
    return tuple(min((place + 0.5) / SCORE_BINS, 1.0) for place in found)
